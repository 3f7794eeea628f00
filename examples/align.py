# SPDX-License-Identifier: MIT
"""From reference rewards to a win rate with its interval, as a user of TRL would do it, on a small policy instead of a model.

Each of 40 prompts has 300 possible responses; the reward model gives every prompt another scale and level. The reference
policy is uniform. A softmax policy is trained with the reward function that TRL would call, and measured on fresh samples.

align.py [FILE.png]: with a file, the win rate against the KL during training is drawn, by matplotlib or gnuplot.
"""

import sys

import numpy as np

import infalign as ia
import infalign.picture
import infalign.trl

PROMPTS, RESPONSES, K, M = 40, 300, 16, 16
random = np.random.default_rng(1)
names = [f"prompt {p}" for p in range(PROMPTS)]
rewards = random.normal(size=(PROMPTS, RESPONSES)) * 10 ** random.uniform(-1, 1, (PROMPTS, 1)) + random.normal(size=(PROMPTS, 1))


def sample(policy, n):
    """n responses to each prompt."""
    return np.array([random.choice(RESPONSES, n, p=p) for p in policy])


def kl_of(policy):
    return (policy * np.log(np.maximum(policy, 1e-300) * RESPONSES)).sum(axis=1)


def rewards_of(responses):
    return np.take_along_axis(rewards, responses, axis=1)


uniform = np.full((PROMPTS, RESPONSES), 1 / RESPONSES)
reference = rewards_of(sample(uniform, K))

# 1. What to train with: a prior for few references, the rate of the transform, and beta.
plan = ia.plan_rewards(reference, ia.best_of(4), kl=0.5)
print(f"plan: prior {plan.prior.model}, normalized_exponential({plan.t:.1f}), beta {plan.beta:.3f}")


# 2. The reward function that the trainer calls. A response is its number here, and a text in a real trainer.
def reward_model(prompts, completions, **columns):
    return [rewards[names.index(p), int(c)] for p, c in zip(prompts, completions)]


shaped = infalign.trl.shaped(reward_model, ia.reference_table(names, reference), plan.shape.transform, prior=plan.prior)


# 3. Training by sampled steps. Thirty times, the KL and the best-of-4 win rate are computed exactly for the curves.
curves = {}


def train(name, reward_function, beta, steps=1500, rate=1.0):
    curves[name] = []
    step = ia.policy_gradient(ia.k1_in_reward(beta), ia.leave_one_out())
    logits = np.zeros((PROMPTS, RESPONSES))
    for k in range(steps):
        policy = np.exp(logits - logits.max(axis=1, keepdims=True))
        policy /= policy.sum(axis=1, keepdims=True)
        if len(sys.argv) > 1 and k % (steps // 30) == 0:
            w = np.mean([ia.exact_win_rate(*arrays, ia.best_of(4)) for arrays in zip(rewards, policy, uniform)])
            curves[name].append((kl_of(policy).mean(), w))
        chosen = sample(policy, M)
        r = reward_function([n for n in names for _ in range(M)], [str(c) for c in chosen.ravel()])
        now = np.log(np.take_along_axis(policy, chosen, axis=1)).reshape(-1, 1)
        out = step(np.array(r).reshape(PROMPTS, M), log_probabilities=now,
                   reference_log_probabilities=np.full_like(now, -np.log(RESPONSES)))
        g = PROMPTS * rate / beta * out.gradient.reshape(PROMPTS, M)
        for p in range(PROMPTS):
            np.add.at(logits[p], chosen[p], -g[p])
            logits[p] += g[p].sum() * policy[p]
    return policy


def report(name, policy):
    kl = kl_of(policy)
    w = ia.win_rate(rewards_of(sample(policy, 64)), rewards_of(sample(uniform, 64)), ia.best_of(4))
    print(f"{name:28} KL {kl.mean():.2f} (largest of a prompt {kl.max():.2f})   best-of-4 {w.mean:.3f} [{w.low:.3f}, {w.high:.3f}]")


# 4. Measured on fresh references. The raw reward has the beta at which its mean KL would be the same.
for name, function, beta in (("calibrated and transformed", shaped, plan.beta),
                             ("raw reward", reward_model, ia.finite_policies(rewards, kl=0.5).beta)):
    report(name, train(name, function, beta))
if len(sys.argv) > 1:
    infalign.picture.draw(sys.argv[1], curves, "mean KL to the reference (nats)", "best-of-4 win rate")
