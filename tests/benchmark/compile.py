# SPDX-License-Identifier: MIT
"""compile.py FOLDER COMPILER OPTION...: prints what it costs to compile some small files: processor time, the least of 8, and memory."""
import os
import subprocess
import sys

folder, command = sys.argv[1], sys.argv[2:]
os.makedirs(folder, exist_ok=True)
step = """#include <infalign/step.hpp>
using namespace infalign;
void step_of(step_result<float>& out, workspace& space, const token_batch<float>& batch, const matrix<float>& rewards) {
  const policy_gradient step{k3_token_loss{.beta = 0.04}, group_standardized{}, ppo_clip{}, token_mean{}};
  step.into(out, space, batch, rewards);
}
"""
sources = {f"#include <{header}>": f"#include <{header}>\n" for header in ("Eigen/Core", "infalign/transform.hpp", "infalign/step.hpp", "infalign/infalign.hpp")}
sources["one step"] = step
sources["infalign/testing.hpp beside infalign.hpp"] = "#include <infalign/infalign.hpp>\n#include <infalign/testing.hpp>\n"

# In turn, so that a slow minute of the machine slows all of them.
seconds, memory = {name: float("inf") for name in sources}, dict.fromkeys(sources, 0)
for _ in range(8):
    for name, source in sources.items():
        with open(f"{folder}/file.cpp", "w") as file:
            file.write(source)
        compiler = subprocess.Popen(command + ["-c", f"{folder}/file.cpp", "-o", f"{folder}/file.o"])
        _, status, usage = os.wait4(compiler.pid, 0)
        if status != 0:
            sys.exit(f"{name} does not compile")
        seconds[name] = min(seconds[name], usage.ru_utime)
        memory[name] = usage.ru_maxrss / 1024
print("\n| compiling at `-O2` | s | MiB |\n|---|---|---|")
for name in sources:
    print(f"| {name} | {seconds[name]:.2f} | {memory[name]:.0f} |")
