"""One training step and one denoising step of each method beside its official code, on the same tensors."""

from __future__ import annotations

import copy
from argparse import Namespace
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn

from ctsynth.config import RunConfig, TrainingConfig
from ctsynth.diffusion.samplers import Sampler
from ctsynth.labels import AMOS22
from ctsynth.methods import base
from ctsynth.networks.conditioning import one_hot
from ctsynth.randomness import BatchRNG
from ctsynth.stop import Stop
from ctsynth.trainable import Batch
from ctsynth.training.checkpoint import make_method
from ctsynth.training.stepper import Stepper

from .row import Row, Side, checkout

CPU = torch.device("cpu")
CLASSES = AMOS22.num_classes
SIDE = 64
MULTIPLIERS = (1, 1, 2, 2, 4, 4)
STEPS = 4


class Repeated:
    """A data set whose every batch is the same, in the device's memory."""

    def __init__(self, size: int, side: int = SIDE, device: torch.device = CPU) -> None:
        generator = torch.Generator().manual_seed(0)
        self.image = (torch.rand(size, 1, side, side, generator=generator) * 2 - 1).to(device)
        self.labels = torch.randint(CLASSES, (size, side, side), generator=generator).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def order(self, _seed: int, _start: int, count: int) -> list[int]:
        return [0] * count

    def read_ahead(self, *_: object) -> None:
        pass

    def batch(self, indices: list[int], device: torch.device, *_: object) -> Batch:
        return Batch(self.image, self.labels)


def config(method: str, size: int, side: int = SIDE, **options: object) -> RunConfig:
    return RunConfig(
        method=method, size=side, options=asdict(base.find_method(method).Options(**options)), preset="paper",
        training=TrainingConfig(batch_size=size), labels=AMOS22.as_json(), level=40, width=400,
    )  # fmt: skip


def training(method: str, data: Repeated, **options: object) -> Side:
    """All that the loop does for a step: both phases, the running averages, the look for NaN."""
    settings = config(method, len(data), data.labels.shape[-1], **options)
    stepper = Stepper(settings, data, device=CPU, precision="fp32")
    stop = Stop()

    def step() -> None:
        stepper.advance(stop)
        stepper.terms.check(list)

    return step


def diffusion_peer(package: str, learner: nn.Module, folder: Path, device: torch.device = CPU, **options: object):
    """Their training loop around a network: loss, backward, optimizer, averages and logging.

    On a GPU it wraps the network in DistributedDataParallel, even alone, and each of its steps needs the process
    group: who is done with it destroys that.
    """
    import_module(f"{package}.logger").configure(str(folder), format_strs=[])
    process = import_module(f"{package}.script_util").create_gaussian_diffusion(
        learn_sigma=True, rescale_timesteps=True, rescale_learned_sigmas=True
    )
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.FileStore(str(folder / "group"), 1), rank=0, world_size=1)
    loop = import_module(f"{package}.train_util").TrainLoop(
        model=learner.to(device).train(), diffusion=process, data=None, batch_size=1024, microbatch=-1, lr=1e-4,
        ema_rate="0.9999", log_interval=10, save_interval=10_000, resume_checkpoint="", **options,
    )  # fmt: skip
    if device.type == "cpu":
        dist.destroy_process_group()
    return loop


ABSENT = {"blobfile": {}, "mpi4py": {"MPI": Namespace(COMM_WORLD=Namespace(Get_rank=lambda: 0))}}
"""What improved-diffusion and SDM import for storage and for many machines."""


def improved_diffusion(
    official: Path, folder: Path, *, side: int = SIDE, device: torch.device = CPU, fp16: bool = False
):
    """Their loop, and the network with the mask beside the noisy slice as their super-resolution has its image."""
    with checkout(official, "improved-diffusion", ABSENT):

        class Concat(import_module("improved_diffusion.unet").UNetModel):
            def forward(self, x: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
                return super().forward(torch.cat([x, one_hot(labels, CLASSES)], dim=1), timesteps)

        network = Concat(
            1 + CLASSES, 128, 2, 2, (side // 16, side // 8), channel_mult=MULTIPLIERS, num_heads=4,
            use_scale_shift_norm=True,
        )  # fmt: skip
        return diffusion_peer("improved_diffusion", network, folder, device, use_fp16=fp16)


def ddpm(official: Path, folder: Path) -> tuple[Side, Side]:
    data = Repeated(4)
    loop = improved_diffusion(official, folder)
    return training("ddpm-concat", data), lambda: loop.run_step(data.image, {"labels": data.labels})


def sdm(official: Path, folder: Path) -> tuple[Side, Side]:
    data = Repeated(2)
    with checkout(official, "semantic-diffusion-model", ABSENT):
        network = import_module("guided_diffusion.unet").UNetModel(
            SIDE, 1, 128, 2, 2, (SIDE // 32, SIDE // 16, SIDE // 8), channel_mult=MULTIPLIERS, num_classes=CLASSES,
            num_head_channels=64, use_scale_shift_norm=True, resblock_updown=True,
        )  # fmt: skip
        loop = diffusion_peer("guided_diffusion", network, folder, num_classes=CLASSES, drop_rate=0.0)

    def step() -> None:
        loop.run_step(data.image, loop.preprocess_input({"label": data.labels[:, None]}))

    return training("sdm", data), step


def pix2pix(official: Path, folder: Path) -> tuple[Side, Side]:
    """Theirs as ``optimize_parameters`` of models/pix2pix_model.py: one fake for both networks."""
    data = Repeated(4)
    with checkout(official, "pytorch-CycleGAN-and-pix2pix"):
        networks = import_module("models.networks")
    generator = networks.UnetGenerator(CLASSES, 1, 6, norm_layer=nn.BatchNorm2d, use_dropout=True)
    judge = networks.NLayerDiscriminator(CLASSES + 1, norm_layer=nn.BatchNorm2d)
    optimizers = [torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (judge, generator)]

    def judgment(segmap: Tensor, image: Tensor, truth: float) -> Tensor:
        logits = judge(torch.cat([segmap, image], dim=1))
        return F.binary_cross_entropy_with_logits(logits, torch.tensor(truth).expand_as(logits))

    def step() -> None:
        segmap = one_hot(data.labels, CLASSES)
        fake = generator(segmap)
        for optimizer in optimizers:
            judge.requires_grad_(optimizer is optimizers[0])
            optimizer.zero_grad()
            if optimizer is optimizers[0]:
                loss = (judgment(segmap, fake.detach(), 0.0) + judgment(segmap, data.image, 1.0)) * 0.5
            else:
                loss = judgment(segmap, fake, 1.0) + 100 * F.l1_loss(fake, data.image)
            loss.backward()
            optimizer.step()

    return training("pix2pix", data), step


SPADE = Namespace(
    gpu_ids=[], isTrain=True, continue_train=False, label_nc=CLASSES, semantic_nc=CLASSES, output_nc=1,
    contain_dontcare_label=False, no_instance=True, use_vae=False, crop_size=SIDE, aspect_ratio=1.0,
    netG="spade", ngf=64, norm_G="spectralspadesyncbatch3x3", num_upsampling_layers="normal",
    netD="multiscale", netD_subarch="n_layer", num_D=2, n_layers_D=4, ndf=64, norm_D="spectralinstance",
    init_type="xavier", init_variance=0.02, gan_mode="hinge", no_ganFeat_loss=False, lambda_feat=10.0,
    no_vgg_loss=True, lr=2e-4, beta1=0.0, beta2=0.9, no_TTUR=False,
)  # fmt: skip
"""Its own defaults, without VGG, for CT."""


def spade(official: Path, folder: Path) -> tuple[Side, Side]:
    data = Repeated(4)
    norms = {"SynchronizedBatchNorm2d": nn.BatchNorm2d, "DataParallelWithCallback": nn.DataParallel}
    with checkout(official, "SPADE", {"models.networks.sync_batchnorm": norms, "dill": {}, "torchvision": {}}):
        peer = import_module("trainers.pix2pix_trainer").Pix2PixTrainer(SPADE)
    peer.pix2pix_model.netG.conv_img = nn.Conv2d(64, 1, 3, padding=1)  # three channels whatever output_nc says
    peer.optimizer_G, peer.optimizer_D = peer.pix2pix_model.create_optimizers(SPADE)

    def step() -> None:
        for phase in (peer.run_generator_one_step, peer.run_discriminator_one_step):
            phase({"label": data.labels[:, None], "image": data.image})

    return training("spade", data, vgg="no"), step


OASIS = Namespace(
    gpu_ids="-1", phase="train", continue_train=False, semantic_nc=CLASSES, crop_size=SIDE, aspect_ratio=1.0,
    channels_G=64, z_dim=64, num_res_blocks=6, spade_ks=3, param_free_norm="syncbatch", no_3dnoise=False,
    no_spectral_norm=False, no_EMA=False, EMA_decay=0.9999, add_vgg_loss=False, no_labelmix=False,
    lambda_labelmix=10.0, no_balancing_inloss=False, contain_dontcare_label=False,
    freq_print=1000, freq_fid=1000, freq_save_ckpt=1000, freq_save_latest=1000,
)  # fmt: skip
"""Its own defaults, for CT."""


def oasis(official: Path, folder: Path) -> tuple[Side, Side]:
    data = Repeated(4)
    with checkout(official, "OASIS", {"torchvision": {}}):
        models, losses, utils = (import_module(name) for name in ("models.models", "models.losses", "utils.utils"))
        model = models.OASIS_model(OASIS)
        judge = import_module("models.discriminator").residual_block_D(1, 128, OASIS, -1, first=True)
    model.netG.conv_img, model.netD.body_down[0] = nn.Conv2d(64, 1, 3, padding=1), judge  # of one channel
    model.netEMA = copy.deepcopy(model.netG)
    computer, peer = losses.losses_computer(OASIS), Namespace(module=model)
    optimizers = [
        torch.optim.Adam(net.parameters(), lr, (0.0, 0.999))
        for net, lr in ((model.netG, 1e-4), (model.netD, 4e-4))
    ]

    def step() -> None:
        image, segmap = models.preprocess_input(OASIS, {"image": data.image, "label": data.labels[:, None]})
        for net, optimizer, phase in zip(
            (model.netG, model.netD), optimizers, ("losses_G", "losses_D"), strict=True
        ):
            net.zero_grad()
            loss, _ = model(image, segmap, phase, computer)
            loss.backward()
            optimizer.step()
        utils.update_EMA(peer, 1, None, OASIS)

    return training("oasis", data), step


def saved(loss, network: nn.Module) -> float:
    """Bytes of what a forward pass keeps for the backward pass, the parameters themselves aside."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        loss()
    sizes = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    return float(sum(size for place, size in sizes.items() if place not in own))


def activations(official: Path, folder: Path) -> tuple[Side, Side]:
    data = Repeated(4)
    loop = improved_diffusion(official, folder)
    method, batch = make_method(config("ddpm-concat", 4)).train(), data.batch([], CPU)
    rng = BatchRNG.at([("benchmark", number) for number in range(4)], CPU)
    timesteps = torch.arange(4) * 300

    def theirs() -> object:
        return loop.diffusion.training_losses(loop.model, data.image, timesteps, {"labels": data.labels})

    ours = partial(method.loss, "denoiser", batch, rng)
    return partial(saved, ours, method), partial(saved, theirs, loop.model)


def denoising(official: Path, folder: Path) -> tuple[Side, Side]:
    """Ancestral steps; ours as a checkpoint is loaded for ``sample``."""
    data = Repeated(4)
    loop = improved_diffusion(official, folder)
    method = make_method(config("ddpm-concat", 4)).to(memory_format=torch.channels_last).eval()
    rng = BatchRNG.at([("benchmark", number) for number in range(4)], CPU)
    sampler = Sampler(name="ddpm", steps=STEPS)

    def ours() -> None:
        with torch.inference_mode():
            method.generate(data.labels, rng=rng, sampler=sampler)

    return ours, peer_denoising(loop.model, loop.diffusion, data)


def peer_denoising(model: nn.Module, diffusion, data: Repeated) -> Side:
    """``STEPS`` of their ancestral steps."""
    model.eval()

    def denoise() -> None:
        x = torch.randn_like(data.image)
        for timestep in (999, 666, 333, 0):
            with torch.no_grad():
                timesteps = torch.full((len(data),), timestep, device=x.device)
                x = diffusion.p_sample(model, x, timesteps, model_kwargs={"labels": data.labels})["sample"]

    return denoise


def _step(method: str, peer: str, size: str, hold: float, setup) -> Row:
    return Row(name=method, quantity=f"training step of {method}, {size}", peer=peer, hold=hold, setup=setup)


ROWS = (
    _step("ddpm-concat", "improved-diffusion", "4 slices of 64 x 64", 0.90, ddpm),
    _step("sdm", "SDM", "2 slices of 64 x 64", 1.00, sdm),
    _step("pix2pix", "pytorch-CycleGAN-and-pix2pix", "4 slices of 64 x 64", 1.00, pix2pix),
    _step("spade", "SPADE", "4 slices of 64 x 64, no VGG", 1.00, spade),
    _step("oasis", "OASIS", "4 slices of 64 x 64", 1.00, oasis),
    Row(
        name="activations",
        quantity="saved for the backward pass of ddpm-concat, 4 slices of 64 x 64",
        peer="improved-diffusion",
        hold=0.75,
        setup=activations,
        unit="B",
        returned=True,
    ),
    Row(
        name="denoising",
        quantity=f"{STEPS} ancestral denoising steps of ddpm-concat, 4 slices of 64 x 64",
        peer="improved-diffusion",
        hold=1.00,
        setup=denoising,
    ),
)
