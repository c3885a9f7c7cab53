// The CUDA kernels, on the CPU, of one type of x: TYPE, as FUNCTION.
#include "emulator.h"
//
#include "cuda/dispatch.cuh"

namespace ptgq {

void FUNCTION(const Problem& p, const MaskedRows& rows) { quantize_on<TYPE>(p, rows, 0, nullptr); }

}  // namespace ptgq
