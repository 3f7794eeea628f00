# SPDX-License-Identifier: MIT
"""verl: a custom reward function, an advantage estimator and a policy loss. SkyRL takes the estimator too."""

import numpy as np

from . import _core
from .shaped import maybe_await, shaper, weighted


class compute_score:
    """`custom_reward_function`: shapes the score of one response.

        table = infalign.reference_table.read("reference.jsonl")
        compute_score = infalign.verl.compute_score(my_score, table)      # in the file of reward.custom_reward_function.path

    The name of the prompt is extra_info["index"]. my_score is called as verl calls it, and returns a number or a dictionary
    with "score". The raw score is returned beside the shaped one.
    """

    def __init__(self, score, table, transform=None, *, rank=None, prior=None, name=lambda extra_info: str(extra_info["index"])):
        self.score = score
        self.shaper = shaper(table, transform, rank, prior)
        self.name = name

    def _shape(self, result, extra_info):
        result = dict(result) if isinstance(result, dict) else {"score": result}
        result["raw_score"] = result["score"]
        result["score"] = self.shaper.one(self.name(extra_info), result["score"])
        return result

    def __call__(self, data_source, solution_str, ground_truth, extra_info=None, **kwargs):
        result = self.score(data_source=data_source, solution_str=solution_str, ground_truth=ground_truth, extra_info=extra_info, **kwargs)
        return self._shape(result, extra_info)

    async def call(self, data_source, solution_str, ground_truth, extra_info=None, **kwargs):
        """For an async score."""
        result = await maybe_await(
            self.score(data_source=data_source, solution_str=solution_str, ground_truth=ground_truth, extra_info=extra_info, **kwargs)
        )
        return self._shape(result, extra_info)


def advantages(estimator):
    """A function for `register_adv_est`: the advantages of infalign, spread over the tokens of each response.

        register_adv_est("infalign_max_at_4")(infalign.verl.advantages(infalign.max_at_n(4)))

    index: the group of each response (verl's uid).
    """

    def of_batch(token_level_rewards, response_mask, index=None, config=None, **kwargs):
        import torch

        groups = np.unique(np.asarray(index), return_inverse=True)[1]
        rewards = token_level_rewards.sum(dim=-1).double().cpu().numpy()
        a = torch.from_numpy(_core.advantage(rewards, estimator, groups)).to(token_level_rewards)
        spread = a.unsqueeze(-1) * response_mask
        return spread, spread

    return of_batch


def policy_loss(surrogate, kl=None):
    """A function for `register_policy_loss`: the loss of infalign with verl's aggregation.

        register_policy_loss("infalign")(infalign.verl.policy_loss(infalign.ppo_clip(0.2, 0.28)))

    rollout_is_weights multiply the terms of tokens, as advantages do; so they are refused with a KL loss.
    """

    def of_micro_batch(old_log_prob, log_prob, advantages, response_mask, loss_agg_mode="token-mean", config=None, rollout_is_weights=None,
                       **kwargs):
        from . import torch as infalign_torch

        advantages = weighted(advantages, rollout_is_weights, kl, "infalign.verl.policy_loss: expected no rollout_is_weights")
        means = {
            "token-mean": _core.token_mean(),
            "seq-mean-token-sum": _core.sequence_mean_of_token_sums(),
            "seq-mean-token-mean": _core.sequence_mean_of_token_means(),
        }
        if loss_agg_mode not in means:
            raise ValueError(f"infalign.verl.policy_loss: expected a loss_agg_mode of {', '.join(means)}, got {loss_agg_mode}")
        of_config = lambda name: getattr(config, "global_batch_info", {}).get(name) if config is not None else None  # noqa: E731
        tokens, sequences = of_config("batch_num_tokens"), of_config("global_batch_size")
        size = {}
        if tokens is not None or sequences is not None:
            size = {
                "tokens": float(response_mask.sum() if tokens is None else tokens),
                "sequences": float(response_mask.shape[0] if sequences is None else sequences),
            }
        loss, metrics = infalign_torch.loss(
            _core.policy_loss(kl, surrogate, means[loss_agg_mode]), advantages, log_probabilities=log_prob,
            old_log_probabilities=old_log_prob, mask=response_mask, **size)
        ranks = of_config("dp_size") or 1  # FSDP averages over its ranks
        return loss * ranks, {"actor/pg_clipfrac": metrics.clip_ratio, "actor/ppo_kl": metrics.approx_kl}

    return of_micro_batch
