# SPDX-License-Identifier: MIT
"""The step and the loss of infalign as losses that PyTorch differentiates. Importing this imports torch."""

import torch as _torch


class _given_gradient(_torch.autograd.Function):
    """A number whose gradient by log_probabilities is known."""

    @staticmethod
    def forward(ctx, log_probabilities, value, gradient):
        ctx.save_for_backward(gradient)
        return log_probabilities.new_tensor(value)

    @staticmethod
    def backward(ctx, upstream):
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None


def _numpy(x):
    """A tensor as an array, without a copy if it is on the CPU and of a type that NumPy has."""
    if not isinstance(x, _torch.Tensor):
        return x
    x = x.detach()
    if x.dtype in (_torch.bfloat16, _torch.float16):
        x = x.float()
    return x.cpu().numpy()


def loss(step, *args, log_probabilities, **kwargs):
    """(loss, metrics) of a policy_gradient or a policy_loss; loss.backward() reaches log_probabilities.

        loss, metrics = infalign.torch.loss(step, rewards, log_probabilities=now, reference_log_probabilities=ref, mask=mask)
        loss, metrics = infalign.torch.loss(policy_loss, advantages, log_probabilities=now, sequences=B, tokens=n)

    DDP and FSDP average gradients over their ranks: multiply the loss of a shard by the number of ranks.
    """
    if log_probabilities.dtype in (_torch.bfloat16, _torch.float16):
        log_probabilities = log_probabilities.float()
    out = step(*map(_numpy, args), log_probabilities=_numpy(log_probabilities), **{k: _numpy(v) for k, v in kwargs.items()})
    gradient = _torch.from_numpy(out.gradient).to(log_probabilities.device)
    return _given_gradient.apply(log_probabilities, out.loss, gradient), out.metrics


def all_reduce(group=None):
    """reduce= of a step for shards: an all-reduce by torch.distributed. With NCCL the values go to the device and back."""
    import torch.distributed as dist

    def reduce(values, op):
        here = _torch.from_numpy(values)
        there = here.cuda() if dist.get_backend(group) == "nccl" else here
        dist.all_reduce(there, dist.ReduceOp.SUM if op == "sum" else dist.ReduceOp.MAX, group=group)
        if there is not here:
            here.copy_(there)

    return reduce
