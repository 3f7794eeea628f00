# awk -v folder=FOLDER -f readme.awk README.md...: writes the code of the READMEs to files in FOLDER.
#   readme_program.cpp   the ```cpp block with a main function
#   readme_output.txt    the ```text block that follows it
#   readme_snippets.cpp  the other ```cpp blocks, each in a namespace (if a line begins with "struct") or in a function
#   readme_torch.inc     the ```c++ block, which needs LibTorch
BEGIN { snippets = folder "/readme_snippets.cpp"; printf "#include \"readme.hpp\"\n" > snippets }
/^```/ {
  if (kind != "") { finish(); kind = "" } else { kind = substr($0, 4); block = ""; if (kind == "") kind = "none" }
  next
}
kind != "" { block = block $0 "\n" }
function finish() {
  if (kind == "cpp" && block ~ /int main/) printf "%s", block > (folder "/readme_program.cpp")
  else if (kind == "cpp" && block ~ /(^|\n)struct /) printf "namespace snippet_%d {\n%s}\n", ++number, block > snippets
  else if (kind == "cpp") printf "void snippet_%d() {\n%s}\n", ++number, block > snippets
  else if (kind == "text" && !(output++)) printf "%s", block > (folder "/readme_output.txt")
  else if (kind == "c++") printf "%s", block > (folder "/readme_torch.inc")
}
