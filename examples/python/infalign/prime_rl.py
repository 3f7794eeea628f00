# SPDX-License-Identifier: MIT
"""prime-rl: a custom loss for [trainer.loss] type = "custom"."""

from . import _core


def loss(surrogate, kl=None):
    """A loss function of one sequence: the sum over its tokens, as prime-rl divides by a global number of tokens.

        infalign_loss = infalign.prime_rl.loss(infalign.ppo_clip(0.2, 0.2))
    """
    step = _core.policy_loss(kl, surrogate, _core.sequence_mean_of_token_sums())

    def of_sequence(inputs, **kwargs):
        from . import torch as infalign_torch

        row = lambda x: None if x is None else x.reshape(1, -1)  # noqa: E731
        value, metrics = infalign_torch.loss(
            step, row(inputs.advantages), log_probabilities=row(inputs.trainer_logprobs),
            old_log_probabilities=row(inputs.inference_logprobs), reference_log_probabilities=row(inputs.ref_logprobs),
            mask=row(inputs.loss_mask), sequences=1, tokens=1)
        return value, {"clip_ratio": metrics.clip_ratio, "ratio": metrics.ratio}

    return of_sequence
