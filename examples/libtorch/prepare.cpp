// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
// From dialogues to tokens: prepare FOLDER [PAIRS.jsonl[.gz]] trains a SentencePiece tokenizer on the dialogues and
// writes the files that `align` reads. Without a file it makes up a corpus. (A separate program, because Debian's
// SentencePiece and LibTorch contain two versions of Protocol Buffers, which cannot be in one process.)
#include "dialogues.hpp"
#include "tokens.hpp"

#include <infalign/adapters/npy.hpp>

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>

namespace {

using namespace trainer;
namespace fs = std::filesystem;
using tokens = Eigen::Array<std::int64_t, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void check(const sentencepiece::util::Status& status) {
  if (!status.ok()) throw std::runtime_error("tokenizer: " + status.ToString());
}

/// The name of a speaker is one token.
std::string marked(std::string text) {
  for (const auto& [from, to] : {std::pair{human, "<human>"}, std::pair{assistant, "<assistant>"}})
    for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at))
      text.replace(at, from.size(), to);
  return text;
}

class tokenizer {
 public:
  /// Byte-pair encoding with at most `vocabulary` tokens.
  static tokenizer trained_on(const std::vector<turn>& turns, int vocabulary) {
    lines input;
    for (const auto& t : turns) input.all.push_back(marked(t.prompt + t.response));
    std::string model;
    check(sentencepiece::SentencePieceTrainer::Train({{"model_type", "bpe"},
                                                      {"vocab_size", std::to_string(vocabulary)},
                                                      {"hard_vocab_limit", "false"},
                                                      {"pad_id", std::to_string(padding)},
                                                      {"eos_id", std::to_string(end_of_text)},
                                                      {"unk_id", std::to_string(unknown)},
                                                      {"bos_id", "-1"},
                                                      {"user_defined_symbols", "<human>,<assistant>"},
                                                      {"add_dummy_prefix", "false"},
                                                      {"max_sentence_length", "65536"},
                                                      {"num_threads", "1"},
                                                      {"minloglevel", "2"}},
                                                     &input, &model));
    tokenizer result;
    check(result.processor_->LoadFromSerializedProto(model));
    return result;
  }

  /// Writes the pieces of text, one a line, in the order of the tokens.
  void write_pieces(const fs::path& file) const {
    std::ofstream out(file);
    for (int id = 0; id < processor_->GetPieceSize(); ++id) out << processor_->IdToPiece(id) << '\n';
  }

  tokens prompts(const std::vector<std::string>& texts) const {
    tokens result = tokens::Constant(static_cast<Eigen::Index>(texts.size()), prompt_length, padding);
    for (Eigen::Index i = 0; i < result.rows(); ++i) {
      const auto all = encoded(texts[static_cast<std::size_t>(i)]);
      const auto n = std::min<Eigen::Index>(static_cast<Eigen::Index>(all.size()), prompt_length);
      std::copy(all.end() - n, all.end(), &result(i, 0) + prompt_length - n);
    }
    return result;
  }

  tokens responses(const std::vector<std::string>& texts) const {
    tokens result = tokens::Constant(static_cast<Eigen::Index>(texts.size()), response_length, padding);
    for (Eigen::Index i = 0; i < result.rows(); ++i) {
      auto all = encoded(texts[static_cast<std::size_t>(i)]);
      all.push_back(end_of_text);
      const auto n = std::min<Eigen::Index>(static_cast<Eigen::Index>(all.size()), response_length);
      std::copy_n(all.begin(), n, &result(i, 0));
    }
    return result;
  }

 private:
  struct lines : sentencepiece::SentenceIterator {
    std::vector<std::string> all;
    std::size_t at = 0;
    bool done() const override { return at == all.size(); }
    void Next() override { ++at; }
    const std::string& value() const override { return all[at]; }
    sentencepiece::util::Status status() const override { return {}; }
  };

  std::vector<int> encoded(const std::string& text) const {
    std::vector<int> ids;
    check(processor_->Encode(marked(text), &ids));
    return ids;
  }

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_ =
      std::make_unique<sentencepiece::SentencePieceProcessor>();
};

/// One member of each element.
template <class T>
std::vector<std::string> each(const std::vector<T>& from, std::string T::*member) {
  std::vector<std::string> result;
  for (const auto& item : from) result.push_back(item.*member);
  return result;
}

void prepare(const fs::path& folder, const corpus& all) {
  fs::create_directories(folder);
  const auto text = tokenizer::trained_on(all.training.turns, 1024);
  text.write_pieces(folder / "pieces.txt");
  const auto write = [&](const std::string& name, const tokens& values) {
    infalign::write_npy(folder / (name + ".npy"),
                        Eigen::Map<const Eigen::Array<std::int64_t, Eigen::Dynamic, 1>>(values.data(), values.size()));
  };
  const std::initializer_list<std::pair<std::string, const dialogues&>> parts{{"training", all.training},
                                                                              {"held_out", all.held_out}};
  for (const auto& [name, part] : parts) {
    write(name + ".turns.prompts", text.prompts(each(part.turns, &turn::prompt)));
    write(name + ".turns.responses", text.responses(each(part.turns, &turn::response)));
    write(name + ".comparisons.prompts", text.prompts(each(part.comparisons, &comparison::prompt)));
    write(name + ".comparisons.chosen", text.responses(each(part.comparisons, &comparison::chosen)));
    write(name + ".comparisons.rejected", text.responses(each(part.comparisons, &comparison::rejected)));
  }
  // The prompts for alignment and for the report: the last of each dialogue, so that they are independent.
  for (const auto& [name, part] : parts) {
    const auto prompts = distinct(each(part.comparisons, &comparison::prompt));
    write(name + ".prompts", text.prompts(prompts));
    std::cout << name << ": " << part.turns.size() << " turns, " << part.comparisons.size() << " comparisons, "
              << prompts.size() << " prompts to align on\n";
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2 && count != 3) {
    std::cerr << "usage: prepare FOLDER [PAIRS.jsonl[.gz]]\n";
    return 2;
  }
  try {
    prepare(arguments[1], count == 3 ? read_pairs(arguments[2]) : made_up_pairs(3000));
  } catch (const std::exception& error) {
    std::cerr << "prepare: " << error.what() << '\n';
    return 1;
  }
}
