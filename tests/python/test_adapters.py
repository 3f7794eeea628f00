# SPDX-License-Identifier: MIT
"""Each adapter is called as its trainer calls it: imitations of the calls of TRL (July 2026), verl, OpenRLHF, slime, NeMo-RL,
prime-rl, SkyRL and ms-swift (August 2026) and AReaL (May 2026)."""

import asyncio
import pickle
import types
import unittest

import numpy as np

import infalign as ia
import infalign.areal
import infalign.ms_swift
import infalign.nemo_rl
import infalign.openrlhf
import infalign.prime_rl
import infalign.skyrl
import infalign.slime
import infalign.trl
import infalign.verl

try:
    import torch

    import infalign.torch
except ImportError:
    torch = None

needs_torch = unittest.skipIf(torch is None, "PyTorch is not installed")

NAMES = ["red", "green", "blue"]
REFERENCE = np.random.default_rng(7).normal(size=(3, 16))
TABLE = ia.reference_table(NAMES, REFERENCE)
SHAPE = ia.calibration(REFERENCE, unscored="propagate") | ia.normalized_exponential(10)


def shaped(name, score):
    return SHAPE.one(NAMES.index(name), score)


def length(prompts, completions, **kwargs):
    return [len(c) / 10 if c else None for c in completions]


async def length_later(prompts, completions, **kwargs):
    await asyncio.sleep(0)
    return length(prompts, completions)


def score_one(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    return {"score": len(solution_str) / 10, "other": 1} if kwargs.get("as_dict") else len(solution_str) / 10


def areal_reward(prompt, completions, prompt_ids, completion_ids, **columns):
    return len(completions) / 10


class TRL(unittest.TestCase):
    def test_a_share_of_a_group(self):
        f = infalign.trl.shaped(length, TABLE)
        metrics = {}
        out = f(prompts=["red", "blue", "red"], completions=["abc", "", "a" * 9], completion_ids=[[1], [2], [3]], trainer_state=None,
                log_extra=lambda column, values: None, log_metric=lambda name, value: metrics.update({name: value}))
        self.assertEqual(out, [shaped("red", 0.3), None, shaped("red", 0.9)])
        self.assertEqual(f.__name__, "length_shaped")
        self.assertAlmostEqual(metrics["length_shaped/raw"], 0.6)

    def test_conversations(self):
        f = infalign.trl.shaped(length, TABLE)
        prompt = [{"role": "system", "content": "x"}, {"role": "user", "content": "green"}]
        self.assertEqual(f(prompts=[prompt], completions=["abcd"]), [shaped("green", 0.4)])

    def test_async_and_pickled(self):
        f = infalign.trl.shaped_async(length_later, TABLE).call
        self.assertTrue(asyncio.iscoroutinefunction(f))
        self.assertEqual(asyncio.run(f(prompts=["red"], completions=["abc"])), [shaped("red", 0.3)])
        again = pickle.loads(pickle.dumps(infalign.trl.shaped(length, TABLE)))
        self.assertEqual(again(prompts=["red"], completions=["abc"]), [shaped("red", 0.3)])

    def test_an_unknown_prompt(self):
        with self.assertRaisesRegex(KeyError, "no reference rewards for the prompt 'pink'"):
            infalign.trl.shaped(length, TABLE)(prompts=["pink"], completions=["a"])


class Verl(unittest.TestCase):
    def test_one_response_a_call(self):
        f = infalign.verl.compute_score(score_one, ia.reference_table(["0", "1", "2"], REFERENCE))
        out = f(data_source="x", solution_str="abc", ground_truth="", extra_info={"index": 1})
        self.assertEqual(out, {"score": shaped("green", 0.3), "raw_score": 0.3})
        out = f(data_source="x", solution_str="abc", ground_truth="", extra_info={"index": 1}, as_dict=True)
        self.assertEqual(out, {"score": shaped("green", 0.3), "raw_score": 0.3, "other": 1})
        self.assertEqual(asyncio.run(f.call("x", "abc", "", {"index": 1}))["score"], shaped("green", 0.3))

    @needs_torch
    def test_advantages_of_groups_in_any_order(self):
        f = infalign.verl.advantages(ia.max_at_n(2))
        rewards, mask = torch.zeros(5, 4), torch.tensor([[1.0, 1, 1, 0]] * 5)
        rewards[:, 2] = torch.tensor([1.0, 5, 2, 4, 3])
        uid = np.array(["a", "b", "a", "b", "a"], dtype=object)
        a, returns = f(token_level_rewards=rewards, response_mask=mask, index=uid, config=None)
        expected = ia.advantage([1.0, 5, 2, 4, 3], ia.max_at_n(2), [0, 1, 0, 1, 0])
        np.testing.assert_allclose(a[:, 0], expected, rtol=1e-6)
        self.assertTrue((a[:, 3] == 0).all())
        for module in (infalign.skyrl, infalign.verl):
            self.assertIs(module.advantages, infalign.verl.advantages)

    @needs_torch
    def test_policy_loss_over_micro_batches(self):
        # verl: Σ over tokens of max(-A ρ, -A clip(ρ)), over the tokens of the whole batch, times the number of ranks.
        torch.manual_seed(1)
        old, mask = -torch.rand(6, 5), (torch.rand(6, 5) > 0.3).float()
        now = (old + 0.4 * (torch.rand(6, 5) - 0.5)).requires_grad_()
        a = torch.randn(6, 1).expand(6, 5).contiguous()
        rho = (now - old).exp()
        terms = torch.maximum(-a * rho, -a * rho.clamp(0.8, 1.28)) * mask
        expected = 2 * terms.sum() / mask.sum()
        (gradient,) = torch.autograd.grad(expected, now)
        f = infalign.verl.policy_loss(ia.ppo_clip(0.2, 0.28))
        config = types.SimpleNamespace(global_batch_info={"batch_num_tokens": float(mask.sum()), "dp_size": 2, "global_batch_size": 6})
        total, got = 0.0, torch.zeros_like(now)
        for rows in (slice(0, 2), slice(2, 6)):
            part = now[rows].detach().requires_grad_()
            loss, metrics = f(old_log_prob=old[rows], log_prob=part, advantages=a[rows], response_mask=mask[rows],
                              loss_agg_mode="token-mean", config=config, rollout_is_weights=None)
            loss.backward()
            total += float(loss)
            got[rows] = part.grad
        self.assertAlmostEqual(total, float(expected), places=5)
        torch.testing.assert_close(got, gradient, rtol=1e-5, atol=1e-7)
        with self.assertRaisesRegex(ValueError, "expected a loss_agg_mode of token-mean"):
            f(old, now, a, mask, loss_agg_mode="median")

    @needs_torch
    def test_weights_of_the_rollout_multiply_the_terms_of_tokens(self):
        torch.manual_seed(3)
        old, mask, a, weights = -torch.rand(2, 4), torch.ones(2, 4), torch.randn(2, 4), torch.rand(2, 4)
        now = (old + 0.4 * (torch.rand(2, 4) - 0.5)).requires_grad_()
        rho = (now - old).exp()
        expected = (torch.maximum(-a * rho, -a * rho.clamp(0.8, 1.2)) * weights).mean()
        loss, _ = infalign.verl.policy_loss(ia.ppo_clip(0.2, 0.2))(old, now, a, mask, rollout_is_weights=weights)
        self.assertAlmostEqual(float(loss), float(expected), places=6)
        with self.assertRaisesRegex(ValueError, "no rollout_is_weights with a KL loss"):
            infalign.verl.policy_loss(ia.ppo_clip(), ia.k3_token_loss(0.1))(old, now, a, mask, rollout_is_weights=weights)


class Clipping(unittest.TestCase):
    def test_a_transform_that_would_be_cut_is_an_error(self):
        for make in (
            lambda phi: infalign.openrlhf.reward_func(None, TABLE, phi),
            lambda phi: infalign.areal.reward_fn(areal_reward, TABLE, phi),
        ):
            make(None), make(ia.normalized_exponential(-10)), make(ia.exponential(1))
            for cut in (ia.exponential(10), ia.exponential(5)):
                with self.assertRaisesRegex(ValueError, "clips rewards to .*normalized_exponential"):
                    make(cut)
        infalign.openrlhf.reward_func(None, TABLE, ia.exponential(5), clip_range=(-200, 200))


class OpenRLHF(unittest.TestCase):
    @needs_torch
    def test_lists_of_one(self):
        def reward(queries, prompts, labels, **kwargs):
            return {"rewards": torch.tensor([len(q) / 10 for q in queries]), "extra_logs": {"n": 1}}

        f = infalign.openrlhf.reward_func(reward, TABLE)
        out = asyncio.run(asyncio.to_thread(f, ["abcdef"], ["a prompt"], ["blue"]))
        self.assertAlmostEqual(float(out["rewards"]), shaped("blue", 0.6), places=6)
        self.assertAlmostEqual(float(out["scores"]), ia.calibration(REFERENCE).one(2, 0.6), places=6)
        self.assertEqual(out["extra_logs"]["n"], 1)


class Slime(unittest.TestCase):
    def test_a_rollout(self):
        sample = lambda label, r: types.SimpleNamespace(label=label, get_reward_value=lambda args: r)  # noqa: E731
        raw, rewards = infalign.slime.post_process(TABLE)(None, [sample("red", 0.1), sample("blue", -1), sample("red", 2)])
        self.assertEqual(raw, [0.1, -1, 2])
        self.assertEqual(rewards, [shaped("red", 0.1), shaped("blue", -1), shaped("red", 2)])


class AReaL(unittest.TestCase):
    def test_in_a_process_pool(self):
        f = pickle.loads(pickle.dumps(infalign.areal.reward_fn(areal_reward, TABLE)))
        self.assertEqual(f("green", "abcde", [1], [2], answer="x"), shaped("green", 0.5))


class NeMo(unittest.TestCase):
    @needs_torch
    def test_rewards_and_advantages(self):
        out = infalign.nemo_rl.shaped_rewards(TABLE)(["red", "blue"], torch.tensor([0.25, 0.5]))
        np.testing.assert_allclose(out, [shaped("red", 0.25), shaped("blue", 0.5)], rtol=1e-6)
        ids = torch.tensor([[1, 2], [3, 4], [1, 2]])
        a = infalign.nemo_rl.advantage_estimator(ia.leave_one_out()).compute_advantage(ids, torch.tensor([1.0, 5, 3]), torch.ones(3, 2))
        self.assertEqual(a.tolist(), [[-2, -2], [0, 0], [2, 2]])


class Losses(unittest.TestCase):
    @needs_torch
    def test_prime_rl_and_skyrl_sum_over_tokens(self):
        torch.manual_seed(2)
        old, mask, a = -torch.rand(1, 6), torch.tensor([[1.0, 1, 0, 1, 1, 0]]), torch.randn(1, 6)
        now = (old + 0.4 * (torch.rand(1, 6) - 0.5)).requires_grad_()
        rho = (now - old).exp()
        expected = (torch.maximum(-a * rho, -a * rho.clamp(0.8, 1.2)) * mask).sum()
        (gradient,) = torch.autograd.grad(expected, now, retain_graph=True)
        inputs = types.SimpleNamespace(trainer_logprobs=now[0], inference_logprobs=old[0], ref_logprobs=None, advantages=a[0],
                                       loss_mask=mask[0].bool(), loss_weights=None)
        for loss in (
            infalign.prime_rl.loss(ia.ppo_clip(0.2, 0.2))(inputs).loss,
            infalign.skyrl.policy_loss(ia.ppo_clip(0.2, 0.2))(now, old, a, None, loss_mask=mask)[0],
        ):
            self.assertAlmostEqual(float(loss), float(expected), places=5)
            torch.testing.assert_close(torch.autograd.grad(loss, now, retain_graph=True)[0], gradient, rtol=1e-5, atol=1e-7)

    @needs_torch
    def test_weights_and_metrics_of_prime_rl(self):
        inputs = types.SimpleNamespace(trainer_logprobs=torch.tensor([-1.0, -2]), inference_logprobs=torch.tensor([-1.0, -2]), ref_logprobs=None,
                                       advantages=torch.tensor([1.0, 3]), loss_mask=torch.tensor([True, True]), loss_weights=torch.tensor([0.5, 2]))
        out = infalign.prime_rl.loss(ia.ppo_clip(0.2, 0.2))(inputs)
        self.assertAlmostEqual(float(out.loss), -6.5, places=6)
        self.assertEqual({name: x.item() for name, x in out.metrics.items()}, {"clip_ratio": 0, "ratio": 1})
        inputs.ref_logprobs = inputs.inference_logprobs
        with self.assertRaisesRegex(ValueError, "no loss_weights with a KL loss"):
            infalign.prime_rl.loss(ia.ppo_clip(), ia.k3_token_loss(0.1))(inputs)

    @needs_torch
    def test_the_step_as_a_torch_loss(self):
        now = (-torch.rand(4, 3, dtype=torch.float64)).requires_grad_()
        step = ia.policy_gradient(ia.k1_in_reward(0.05), ia.leave_one_out())
        loss, metrics = infalign.torch.loss(step, torch.rand(2, 2, dtype=torch.float64), log_probabilities=now,
                                            reference_log_probabilities=now.detach() - 0.1)
        (3 * loss).backward()
        self.assertEqual(now.grad.shape, now.shape)
        self.assertAlmostEqual(float(now.grad.sum(dim=1).abs().sum()), float(now.grad.abs().sum()), places=12)
        self.assertAlmostEqual(metrics.kl, 0.3)
        half = now.detach().bfloat16().requires_grad_()
        infalign.torch.loss(step, torch.rand(2, 2), log_probabilities=half, reference_log_probabilities=half.detach())[0].backward()
        self.assertEqual(half.grad.dtype, torch.bfloat16)

    @unittest.skipUnless(torch is not None and torch.cuda.is_available(), "no GPU")
    def test_log_probabilities_on_a_gpu(self):
        step = ia.policy_gradient(ia.k1_in_reward(0.05), ia.leave_one_out())
        rewards, before = torch.rand(2, 2), -torch.rand(4, 3)
        mask = torch.tensor([[True, True, False]] * 4)
        grads = []
        for device in ("cpu", "cuda"):
            now = (before - 0.1).to(device).requires_grad_()
            loss, metrics = infalign.torch.loss(step, rewards.to(device), log_probabilities=now,
                                                reference_log_probabilities=before.to(device), mask=mask.to(device))
            self.assertEqual(loss.device, now.device)
            (3 * loss).backward()
            self.assertEqual(now.grad.device, now.device)
            grads.append((now.grad.cpu(), loss.item(), metrics.kl))
        torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=0)


class MsSwift(unittest.TestCase):
    def test_an_orm(self):
        class ORM:
            def __init__(self, args=None, **kwargs):
                self.args = args

        class Length(ORM):
            def __call__(self, completions, **kwargs):
                return [len(c) / 10 for c in completions]

        class AsyncLength(ORM):
            async def __call__(self, completions, **kwargs):
                return [len(c) / 10 for c in completions]

        orms = {"shaped": infalign.ms_swift.orm(Length, TABLE), "later": infalign.ms_swift.orm(AsyncLength, TABLE)}
        messages = [[{"role": "user", "content": "red"}], [{"role": "user", "content": "blue"}]]
        expected = [shaped("red", 0.3), shaped("blue", 0.4)]
        made = orms["shaped"](args="arguments")
        self.assertEqual(made(["abc", "abcd"], messages=messages, trainer_state=None), expected)
        self.assertEqual(made.args, "arguments")
        later = orms["later"](args=None)
        self.assertTrue(asyncio.iscoroutinefunction(later.__call__))
        self.assertEqual(asyncio.run(later(["abc", "abcd"], messages=messages)), expected)
        with self.assertRaisesRegex(ValueError, "expected messages or prompts"):
            made(["abc"])


if __name__ == "__main__":
    unittest.main()
