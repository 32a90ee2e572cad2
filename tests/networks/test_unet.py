import pytest
import torch

from ctsynth.methods import base
from ctsynth.networks.blocks import timestep_embedding
from ctsynth.networks.conditioning import MaskEncoder
from ctsynth.networks.unet import UNet

# improved-diffusion's U-Net at 256, learned variance, in_channels 1 + 1 and 1 + 17.
CONCAT_INDEX, CONCAT_ONEHOT = 124_050_946, 124_069_378

# An encoder of 64 * (1, 1, 2, 2, 4) channels, two residual blocks R(a, b) a level without a time embedding, where
# R(a, b) = 2a + (9ab + b) + 2b + (9bb + b) and, if a != b, a projection ab + b:
#   4 R(64, 64) + R(64, 128) + 3 R(128, 128) + R(128, 256) + R(256, 256)
#       = 4 * 74_112 + 230_144 + 3 * 295_680 + 919_040 + 1_181_184 = 3_513_856
#   four strided convolutions: 2 (9 * 64 * 64 + 64) + 2 (9 * 128 * 128 + 128) = 369_024
#   the first convolution: 9 * 64 K + 64 for K channels, which is 9_856 for 17 and 640 for 1
# Its features e = (64, 64, 128, 128, 256) meet widths w = (128, 128, 256, 256, 512),
# sum(e w) = 212_992, sum(e) = 640:
#   more input channels of five downsampling convolutions: 9 * 212_992
#   of five decoder blocks: norm, convolution and projection: 2 * 640 + 9 * 212_992 + 212_992
GUIDANCE = 3_513_856 + 369_024 + 9 * 212_992 + 2 * 640 + 10 * 212_992
WITHOUT_MASK = CONCAT_ONEHOT - 17 * 9 * 128


@pytest.mark.parametrize(
    ("method", "options", "count"),
    [
        ("ddpm-concat", {"mask_encoding": "index"}, CONCAT_INDEX),
        ("ddpm-concat", {"mask_encoding": "onehot"}, CONCAT_ONEHOT),
        ("ddpm-mask", {}, WITHOUT_MASK + GUIDANCE + 9_856),
        ("ddpm-edge", {}, CONCAT_ONEHOT + GUIDANCE + 640),
    ],
)
def test_the_papers_networks_have_exactly_these_parameters(method, options, count):
    cls = base.find(method)
    with torch.device("meta"):
        model = cls(cls.Options(**options), num_classes=17, size=256)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_attention_of_the_papers_network_is_at_16_and_8_and_in_the_middle():
    cls = base.find("ddpm-concat")
    with torch.device("meta"):
        unet = cls(cls.Options(), num_classes=17, size=256).unet
    places = [n for n, stage in enumerate(unet.encoder) if not isinstance(stage.attention, torch.nn.Identity)]
    assert places == [8, 9, 10, 11]  # two blocks a level: levels 4 (16 x 16) and 5 (8 x 8)
    places = [n for n, stage in enumerate(unet.decoder) if not isinstance(stage.attention, torch.nn.Identity)]
    assert places == [0, 1, 2, 3, 4, 5]
    assert unet.middle_in.attention.heads == 4


def test_the_mask_encoder_has_five_taps_each_before_its_downsampling():
    cls = base.find("ddpm-mask")
    with torch.device("meta"):
        model = cls(cls.Options(), num_classes=17, size=256)
        features = model.conditioner.encoder(torch.empty(1, 17, 256, 256))
    shapes = [(64, 256), (64, 128), (128, 64), (128, 32), (256, 16)]  # the paper's 128, 128, 256, 256, 512 halved
    assert [tuple(map_.shape[1:]) for map_ in features] == [(c, side, side) for c, side in shapes]


@pytest.mark.parametrize("joined", [(), (4, 8)])
def test_an_untrained_network_says_zero(joined):
    unet = UNet(
        3, 2, channels=8, multipliers=(1, 2, 2), res_blocks=1, attention_levels=[2], feature_channels=joined
    )
    features = [torch.randn(2, channels, 16 // 2**n, 16 // 2**n) for n, channels in enumerate(joined)]
    out = unet(torch.randn(2, 3, 16, 16), torch.tensor([0, 999]), features)
    assert out.shape == (2, 2, 16, 16)
    assert torch.count_nonzero(out) == 0


def test_every_feature_map_reaches_the_output():
    torch.manual_seed(0)
    unet = UNet(
        1, 1, channels=8, multipliers=(1, 2, 2), res_blocks=1, attention_levels=[], feature_channels=(4, 4)
    )
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    features = [torch.randn(1, 4, 16 // 2**n, 16 // 2**n, requires_grad=True) for n in range(2)]
    unet(torch.randn(1, 1, 16, 16), torch.tensor([3]), features).square().sum().backward()
    assert all(map_.grad.abs().min() > 0 for map_ in features)


def test_an_encoder_of_no_time_gives_each_slice_its_own_features():
    torch.manual_seed(0)
    encoder = MaskEncoder(2, 8, (1, 2), 1)
    maps = torch.randn(3, 2, 16, 16)
    together, alone = encoder(maps), encoder(maps[1:2])
    for several, one in zip(together, alone, strict=True):
        torch.testing.assert_close(several[1:2], one)


def test_the_timestep_embedding_is_cosines_then_sines():
    row = timestep_embedding(torch.tensor([7.0]), 6)[0].double()
    angles = 7.0 * 10_000.0 ** (-torch.arange(3, dtype=torch.float64) / 3)
    torch.testing.assert_close(row, torch.cat([angles.cos(), angles.sin()]), atol=1e-6, rtol=0)
