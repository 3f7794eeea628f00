# SPDX-License-Identifier: MIT
"""SkyRL: `register_advantage_estimator` and `register_policy_loss`."""

from . import _core
from .verl import advantages  # noqa: F401  (the same signature)


def policy_loss(surrogate, kl=None):
    """A function for `register_policy_loss`: the sum over tokens, because SkyRL's advantages have the denominators in them.

        register_policy_loss("infalign")(infalign.skyrl.policy_loss(infalign.ppo_clip(0.2, 0.2)))
    """

    def of_micro_batch(log_probs, old_log_probs, advantages, config, loss_mask=None, rollout_logprobs=None):
        from . import torch as infalign_torch

        loss, metrics = infalign_torch.loss(
            _core.policy_loss(kl, surrogate, _core.sequence_mean_of_token_sums()), advantages, log_probabilities=log_probs,
            old_log_probabilities=old_log_probs, mask=loss_mask, sampler_log_probabilities=rollout_logprobs, sequences=1, tokens=1)
        return loss, {"clip_ratio": metrics.clip_ratio}

    return of_micro_batch
