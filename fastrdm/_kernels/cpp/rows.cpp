// Which kernels on rows belong to which instruction set.

#include "rows.hpp"

#include <stdexcept>

namespace fastrdm {

#define FASTRDM_DECLARE(name)                 \
  namespace name {                            \
  extern Dots<float> dots;                    \
  extern Dots<double> dots;                   \
  extern TwiceLess<std::uint16_t> twice_less; \
  extern TwiceLess<std::uint32_t> twice_less; \
  }
#define FASTRDM_ROWS(name) \
  RowKernels { #name, name::dots, name::dots, name::twice_less, name::twice_less }
#ifdef FASTRDM_BUILT_X86
FASTRDM_DECLARE(avx512)
FASTRDM_DECLARE(avx2)
#endif
#ifdef FASTRDM_BUILT_NEON
FASTRDM_DECLARE(neon)
#endif
FASTRDM_DECLARE(portable)

const RowKernels& row_kernels(const std::string& isa) {
  static const RowKernels built[] = {
#ifdef FASTRDM_BUILT_X86
      FASTRDM_ROWS(avx512),
      FASTRDM_ROWS(avx2),
#endif
#ifdef FASTRDM_BUILT_NEON
      FASTRDM_ROWS(neon),
#endif
      FASTRDM_ROWS(portable),
  };
  for (const Isa* available : available_isas())
    for (const RowKernels& kernels : built)
      if (isa == kernels.name && isa == available->name) return kernels;
  throw std::invalid_argument("no such instruction set on this processor: " + isa);
}

std::size_t marks_size(std::size_t n) {
  // Words, levels of 32-bit counts above them that shrink 16-fold, and a node to spare for each.
  return kWays * (2 * (n / 64 + 1) + 128);
}

}  // namespace fastrdm
