import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ctsynth.methods import base
from ctsynth.networks.blocks import AttentionBlock, ResBlock, timestep_embedding
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

# SDM of c = 128 channels, K = 17 classes. T = 4c; a residual block with time R'(a, b) = R(a, b) + 2b (T + 1). In a
# SPADE block P(a, b) the norms' 2a + 2b become N(a) + N(b), N(w) = 9 * 128 K + 128 + 2w (9 * 128 + 1). An
# attention has A(w) = 2w + 4w (w + 1). (u, w) are (2c, 4c).
#   encoder: 4 R'(c, c) + R'(c, u) + 3 R'(u, u) + R'(u, w) + 3 R'(w, w) = 27_160_576
#   halving: 2 R'(c, c) + 2 R'(u, u) + R'(w, w) = 8_988_672
#   middle: 2 P(w, w) = 15_291_392
#   decoder: 5 P(2w, w) + P(w + u, w) + P(w + u, u) + 4 P(2u, u) + P(u + c, u) + P(u + c, c) + 5 P(2c, c)
#       = 102_480_640
#   doubling: 2 P(w, w) + 2 P(u, u) + P(c, c) = 21_673_472
#   attention at 32 (u), 16, 8 and in the middle (w): 5 A(u) + 11 A(w) = 12_886_528
#   time, first convolution, last norm and convolution: c T + T + T T + T + 10c + 2c + 18c + 2 = 332_546
# The sum, and that of c = 256, are those of the official UNetModel with in_channels 1 and out_channels 2.
SDM, SDM_OFFICIAL = 188_813_826, 652_876_290


@pytest.mark.parametrize(
    ("method", "options", "count"),
    [
        ("ddpm-concat", {"mask_encoding": "index"}, CONCAT_INDEX),
        ("ddpm-concat", {"mask_encoding": "onehot"}, CONCAT_ONEHOT),
        ("ddpm-mask", {}, WITHOUT_MASK + GUIDANCE + 9_856),
        ("ddpm-edge", {}, CONCAT_ONEHOT + GUIDANCE + 640),
        ("sdm", {}, SDM),
        ("sdm", {"channels": 256}, SDM_OFFICIAL),
    ],
)
def test_the_papers_networks_have_exactly_these_parameters(method, options, count):
    cls = base.find_method(method)
    with torch.device("meta"):
        model = cls(cls.Options(**options), num_classes=17, size=256)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_attention_of_the_papers_network_is_at_16_and_8_and_in_the_middle():
    cls = base.find_method("ddpm-concat")
    with torch.device("meta"):
        unet = cls(cls.Options(), num_classes=17, size=256).unet
    places = [n for n, stage in enumerate(unet.encoder) if not isinstance(stage.attention, torch.nn.Identity)]
    assert places == [8, 9, 10, 11]  # two blocks a level: levels 4 (16 x 16) and 5 (8 x 8)
    places = [n for n, stage in enumerate(unet.decoder) if not isinstance(stage.attention, torch.nn.Identity)]
    assert places == [0, 1, 2, 3, 4, 5]
    assert unet.middle_in.attention.heads == 4


@pytest.mark.filterwarnings("ignore:.*not used because")  # torch names what it lacks before it refuses
@pytest.mark.parametrize("grad", [True, False])
def test_attention_takes_a_fused_kernel(grad):
    """Without one the weights of all pairs of positions are kept for the backward pass."""
    block, x = AttentionBlock(16, 4), torch.randn(2, 16, 8, 8, requires_grad=grad)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), torch.set_grad_enabled(grad):
        y = block(x)
    assert y.shape == x.shape


def test_attention_of_sdm_is_at_32_16_and_8_with_64_channels_a_head():
    cls = base.find_method("sdm")
    with torch.device("meta"):
        unet = cls(cls.Options(), num_classes=17, size=256).unet
    heads = [getattr(stage.attention, "heads", 0) for stage in unet.encoder]
    assert heads == [0, 0, 0, 0, 0, 0, 4, 4, 8, 8, 8, 8]
    assert unet.middle_in.attention.heads == 8


def test_the_mask_encoder_has_five_taps_each_before_its_downsampling():
    cls = base.find_method("ddpm-mask")
    with torch.device("meta"):
        model = cls(cls.Options(), num_classes=17, size=256)
        features = model.conditioner.encoder(torch.empty(1, 17, 256, 256))
    shapes = [(64, 256), (64, 128), (128, 64), (128, 32), (256, 16)]  # the paper's 128, 128, 256, 256, 512 halved
    assert [tuple(map_.shape[1:]) for map_ in features] == [(c, side, side) for c, side in shapes]


@pytest.mark.parametrize("joined", [(), (4, 8)])
@pytest.mark.parametrize("resblock_updown", [False, True])
@pytest.mark.parametrize("classes", [0, 5])
def test_an_untrained_network_outputs_zero(joined, resblock_updown, classes):
    unet = UNet(
        3, 2, channels=8, multipliers=(1, 2, 2), res_blocks=1, attention_levels=[2], feature_channels=joined,
        resblock_updown=resblock_updown, segmap_channels=classes,
    )  # fmt: skip
    features = [torch.randn(2, channels, 16 // 2**n, 16 // 2**n) for n, channels in enumerate(joined)]
    segmap = torch.randn(2, classes, 16, 16) if classes else None
    out = unet(torch.randn(2, 3, 16, 16), torch.tensor([0, 999]), features, segmap)
    assert out.shape == (2, 2, 16, 16)
    assert torch.count_nonzero(out) == 0


@pytest.mark.parametrize("resblock_updown", [False, True])
def test_every_feature_map_and_the_label_map_reach_the_output(resblock_updown):
    torch.manual_seed(0)
    unet = UNet(
        1, 1, channels=8, multipliers=(1, 2, 2), res_blocks=1, attention_levels=[], feature_channels=(4, 4),
        resblock_updown=resblock_updown, segmap_channels=3,
    )  # fmt: skip
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    features = [torch.randn(1, 4, 16 // 2**n, 16 // 2**n, requires_grad=True) for n in range(2)]
    segmap = torch.randn(1, 3, 16, 16, requires_grad=True)
    unet(torch.randn(1, 1, 16, 16), torch.tensor([3]), features, segmap).square().sum().backward()
    assert all(map_.grad.abs().min() > 0 for map_ in [*features, segmap])


@pytest.mark.parametrize("segmap_channels", [0, 3])
def test_a_residual_block_averages_2_by_2_pixels_on_the_way_down_and_repeats_them_on_the_way_up(segmap_channels):
    x, segmap = torch.randn(2, 8, 4, 4), torch.randn(2, 3, 8, 8) if segmap_channels else None
    down, up = (ResBlock(8, 8, segmap_channels=segmap_channels, resample=way) for way in ("down", "up"))
    repeated = up(x, None, segmap)  # the second convolution is zero: what is left is the input, resampled
    assert torch.equal(repeated, x.repeat_interleave(2, -1).repeat_interleave(2, -2))
    torch.testing.assert_close(down(repeated, None, segmap), x)


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
