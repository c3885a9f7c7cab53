// A checked call, in plain types, for host, CPU and device code.
#pragma once

#include <cstdint>

namespace ptgq {

// x has one of the first three.
enum class ElementType : uint8_t {
  kBfloat16,
  kFloat16,
  kFloat32,
  kE4m3,
  kE8m0,
  kInt8,
  kInt32,
  kInt64,
  kByte,
  kOther
};
inline int64_t x_element_size(ElementType type) { return type == ElementType::kFloat32 ? 4 : 2; }

enum class Code : uint8_t { kE4m3, kInt8 };
// kSiluAndMul: rows of x are twice as long, first the gates, then the elements they gate; clamped
// before where there is a limit.
enum class Prologue : uint8_t { kNone, kSiluAndMul };

// The values of ptgq.ScaleFormat, in the order in which its `code` counts them.
enum class Kind : uint8_t { kFloat32, kPowerOfTwo };
enum class Storage : uint8_t { kFloat32, kE8m0, kPacked };
enum class Layout : uint8_t { kRowMajor, kColumnMajor, kTmaAligned, kTiled };

struct ScaleFormat {
  Kind kind;
  Storage storage;
  Layout layout;
  bool per_batch;
};

constexpr int64_t kTiledRows = -1;

struct Problem {
  const void* x;
  uint8_t* q;
  void* s;
  int64_t num_tokens;
  int64_t num_groups;  // of a token
  int64_t group_size;
  int64_t x_token_stride;  // in elements; q is contiguous
  int64_t s_token_stride;  // in elements of s: words where it is packed; kTiledRows: in tiles
  int64_t s_group_stride;  // between words, of four groups, where s is packed
  int64_t s_batch_stride;
  int64_t column_tokens;  // tokens of a column of scales: those of a batch, or all
  int64_t column_length;  // the same with padding
  float eps;
  ElementType x_type;
  Prologue prologue;
  bool int8;           // q holds INT8, else E4M3
  bool e8m0;           // s holds E8M0 bytes, else float32; packed, too
  bool packed;         // s holds words of four neighbouring groups' E8M0 bytes; in tiles, too
  bool plain;          // the strides alone say where a scale lies: no words, batches, padding
  bool padded;         // a column or the words of a token have padding
  bool power_of_two;   // scales are rounded up to powers of two
  bool column_major;   // the scales of a group, token after token, lie side by side
  bool saturate;       // what is not finite gets the largest codes, not its whole group NaN's
  float swiglu_limit;  // infinity: none
};

// Rows that exist, where not all do: the first of each batch, as many as its count says. The tokens
// of a Problem are then those of all batches, one batch after the other.
struct MaskedRows {
  const void* counts;    // null: all rows exist
  int64_t count_stride;  // in elements
  bool wide;             // counts are int64, else int32
  int64_t batches;
  int64_t batch_tokens;
  int64_t x_batch_stride;  // in elements
};

// Whether PTGQ_PDL allows programmatic dependent launch of CUDA kernels.
bool allows_dependent_launch();

// The instruction set that quantize_cpu uses.
const char* cpu_instruction_set();

// All throw std::runtime_error. CUDA: `device` is the current one, `stream` one of its streams;
// defined only where the library is built with nvcc.
void quantize_cpu(const Problem& p, const MaskedRows& rows);
void quantize_cuda(const Problem& p, const MaskedRows& rows, int device, void* stream);

}  // namespace ptgq
