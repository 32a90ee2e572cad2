"""Laws that the training of every GAN obeys."""

import pytest
import torch
from gan_models import TINY, batch_of, draws, make_gan

from ctsynth.training.distributed import freeze_others


@pytest.mark.parametrize("name", ["oasis", "pix2pix"])  # SPADE's, whose biases may have a gradient of 0, by itself
def test_each_phase_has_gradients_for_all_its_parameters_and_no_others(name):
    model = make_gan(name)
    for phase in model.phases():
        model.zero_grad()
        freeze_others(model, phase)
        model.loss(phase.name, batch_of(), draws(4))["loss"].backward()
        for parameter_name, parameter in model.named_parameters():
            reached = parameter.grad is not None and parameter.grad.abs().max() > 0
            assert reached == parameter_name.startswith(phase.name), parameter_name


@pytest.mark.parametrize("name", TINY)
def test_the_discriminator_loss_gives_the_generator_no_gradient_even_unfrozen(name):
    model = make_gan(name)
    model.loss("discriminator", batch_of(), draws(4))["loss"].backward()
    assert all(parameter.grad is None for parameter in model.generator.parameters())


@pytest.mark.parametrize("name", ["oasis", "pix2pix"])  # SPADE's, with VGG-19, by itself
@pytest.mark.parametrize("phase", ["generator", "discriminator"])
def test_bf16_losses_are_float32_and_close_to_those_of_fp32(name, phase):
    plain = make_gan(name).loss(phase, batch_of(), draws(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = make_gan(name).loss(phase, batch_of(), draws(4))
    for term, value in low.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, plain[term], rtol=0.03, atol=0.03)


@torch.no_grad()
@pytest.mark.parametrize("name", ["oasis", "pix2pix"])  # SPADE draws nothing
def test_equal_draws_give_equal_losses_and_different_draws_different_losses(name):
    first, again, other = (
        make_gan(name).loss("generator", batch_of(), draws(4, draw))["loss"] for draw in ("step", "step", "other")
    )
    assert first == again
    assert first != other
