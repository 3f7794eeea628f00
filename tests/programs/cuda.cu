// SPDX-License-Identifier: MIT
// Scalar functors in a kernel: ranks, transforms, procedures, KL losses and surrogates. Compares them with the CPU, if there is
// a GPU; exits with 77 if there is none.
#include <infalign/infalign.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

using namespace infalign;

/// All functors at u in [0, 1], as an array of numbers.
constexpr int values = 26;
template <class S>
__host__ __device__ void all_of(S u, double* out) {
  const double x = static_cast<double>(u);
  const auto k = static_cast<Eigen::Index>(x * 8);
  out[0] = mid_rank{}(k, 2, 12);
  out[1] = strict_rank{}(k, 2, 12);
  out[2] = weak_rank{}(k, 2, 12);
  out[3] = add_one_rank{}(k, 2, 12);
  out[4] = identity{}(u);
  out[5] = logarithm{}(u);
  out[6] = exponential{.t = 3}(u);
  out[7] = exponential{.t = -3}(u);
  out[8] = normalized_exponential{.t = 10}(u);
  out[9] = normalized_exponential{.t = -10}(u);
  out[10] = power{.exponent = 7}(u);
  out[11] = soft_logarithm{4, 10}(u);
  out[12] = best_of{4}.cdf(x);
  out[13] = worst_of{4}.density(x);
  out[14] = soft_best_of{4, 10}.cdf(x);
  out[15] = soft_best_of{4, -6}.density(x);
  out[16] = best_of_poisson{2}.cdf(x);
  const probability_ratio<S> rho(u - S(0.5));
  out[17] = rho.value;
  out[18] = reinforce{}.prepare(S(2))(u, rho).slope;
  out[19] = ppo_clip{}.prepare(S(2))(u, rho).loss;
  out[20] = ppo_clip{.dual = 3}.prepare(S(-2))(u, rho).slope;
  out[21] = cispo{}.prepare(S(2))(u, rho).loss;
  out[22] = regression{.beta = 0.5}.prepare(S(2))(u, rho).loss;
  out[23] = k2_loss::loss(u).value;
  out[24] = k3_loss::loss(u, rho).value;
  out[25] = plain_sampling{}.cdf(x);
}

template <class S>
__global__ void kernel(int n, double* out) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) all_of(static_cast<S>(i + 1) / static_cast<S>(n), out + i * values);
}

/// The largest difference to the CPU, in units of ε of S relative to 1 and the value.
template <class S>
double largest_difference() {
  const int n = 1000;
  double* on_device = nullptr;
  if (cudaMalloc(&on_device, sizeof(double) * n * values) != cudaSuccess) return -1;
  kernel<S><<<(n + 127) / 128, 128>>>(n, on_device);
  std::vector<double> all(n * values);
  const auto copied = cudaMemcpy(all.data(), on_device, sizeof(double) * n * values, cudaMemcpyDeviceToHost);
  cudaFree(on_device);
  if (copied != cudaSuccess) return -1;
  double worst = 0;
  for (int i = 0; i < n; ++i) {
    double expected[values];
    all_of(static_cast<S>(i + 1) / static_cast<S>(n), expected);
    for (int k = 0; k < values; ++k) {
      const double difference = std::abs(all[i * values + k] - expected[k]) / (1 + std::abs(expected[k]));
      worst = std::fmax(worst, difference / static_cast<double>(std::numeric_limits<S>::epsilon()));
    }
  }
  return worst;
}

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("no GPU: the kernel was compiled, and not run");
    return 77;
  }
  const double single = largest_difference<float>(), twice = largest_difference<double>();
  std::printf("largest differences to the CPU: %.1f epsilon of float, %.1f of double\n", single, twice);
  return single >= 0 && single < 64 && twice >= 0 && twice < 64 ? 0 : 1;
}
