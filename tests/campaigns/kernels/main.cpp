// The fuzzing program: libFuzzer's entry, and a main of its own for compilers without libFuzzer.
//
// Without libFuzzer: fuzz_kernels [-seconds=N] [-runs=N] [-seed=N] [-threads=N] [FILE ...]. With files, runs their inputs; else random inputs.

#include <chrono>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <thread>

#include "calls.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static void (*const kChecks[])(Input&) = {check_products,
                                            check_differences,
                                            check_statistics,
                                            check_condensing,
                                            check_ranks,
                                            check_rank_similarities,
                                            check_similarities,
                                            check_concordance,
                                            check_resampled_similarities,
                                            check_resampled_ceilings,
                                            check_permuted_similarities,
                                            check_normalise,
                                            check_project,
                                            check_merge_near};
  Input in(data, size);
  const auto check = kChecks[in.below(sizeof kChecks / sizeof *kChecks)];
  check(in);
  return 0;
}

#ifndef FASTRDM_LIBFUZZER
namespace {

double option(const std::string& argument, const char* name, double otherwise) {
  const std::string start = std::string("-") + name + "=";
  return argument.rfind(start, 0) == 0 ? std::stod(argument.substr(start.size())) : otherwise;
}

// The last input is kept in a file, for a rerun of a finding.
void run(std::mt19937_64& random, const std::string& kept) {
  std::vector<std::uint8_t> bytes(16 + random() % 48);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
  if (!kept.empty())
    std::ofstream(kept, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

}  // namespace

int main(int n, char** arguments) {
  double seconds = 10, runs = 1e18, seed = 1, n_threads = 1;
  std::string kept;
  bool files = false;
  for (int i = 1; i < n; ++i) {
    const std::string argument = arguments[i];
    seconds = option(argument, "seconds", seconds);
    runs = option(argument, "runs", runs);
    seed = option(argument, "seed", seed);
    n_threads = option(argument, "threads", n_threads);
    if (argument.rfind("-keep=", 0) == 0) kept = argument.substr(6);
    if (argument[0] == '-') continue;
    std::ifstream file(argument, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    files = true;
  }
  if (files) return 0;
  std::string isas;
  for (const auto* isa : fastrdm::available_isas()) isas += std::string(" ") + isa->name;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  std::vector<std::uint64_t> done(static_cast<std::size_t>(n_threads));
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < done.size(); ++t)
    threads.emplace_back([&, t] {
      std::mt19937_64 random(static_cast<std::uint64_t>(seed) + t);
      for (; static_cast<double>(done[t]) < runs && std::chrono::steady_clock::now() < end; ++done[t]) run(random, t == 0 ? kept : "");
    });
  std::uint64_t total = 0;
  for (auto& thread : threads) thread.join();
  for (const auto count : done) total += count;
  std::printf("%llu inputs, no finding, on:%s\n", static_cast<unsigned long long>(total), isas.c_str());
}
#endif
