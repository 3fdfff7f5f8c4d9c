// Vectors as wide as the machine's, and the matrix product of what lies in its caches.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace definet {

#if defined(__AVX512F__)
constexpr int kBytes = 64, kRows = 12; // 24 sums, two vectors of b and a factor: 27 of 32 registers
#else
constexpr int kBytes = 32, kRows = 6; // 15 of 16
#endif
constexpr int kCols = 2; // a panel of b this wide lies in the first cache

template <class T> struct Lanes {
  static constexpr int64_t n = kBytes / sizeof(T);
  typedef T type __attribute__((vector_size(kBytes)));
  typedef T loose __attribute__((vector_size(kBytes), aligned(sizeof(T)), may_alias)); // anywhere in memory
};

template <class T> using Vec = typename Lanes<T>::type;

template <class T> inline Vec<T> load(const T *p) { return *reinterpret_cast<const typename Lanes<T>::loose *>(p); }

template <class T> inline void store(T *p, Vec<T> v) { *reinterpret_cast<typename Lanes<T>::loose *>(p) = v; }

template <class T> inline void add_to(T *p, Vec<T> v) { store(p, load(p) + v); }

template <class T> inline T sum(Vec<T> v) {
  T out = 0;
  for (int k = 0; k < Lanes<T>::n; ++k) out += v[k];
  return out;
}

// An operand whose element (i, k) stands at data[i * row + k * step].
template <class T> struct Strided {
  const T *data;
  int64_t row, step;
};

// R rows of a times a panel of C vectors, packed; c is added to, or overwritten.
template <int R, int C, class T>
inline void tile(int64_t K, Strided<T> a, const T *packed, T *c, int64_t ldc, bool add) {
  constexpr int64_t n = Lanes<T>::n;
  Vec<T> sums[R][C];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int q = 0; q < C; ++q) sums[r][q] = add ? load(c + r * ldc + q * n) : Vec<T>{};
  for (int64_t k = 0; k < K; ++k, packed += C * n, a.data += a.step) {
    Vec<T> right[C];
#pragma GCC unroll 2
    for (int q = 0; q < C; ++q) right[q] = load(packed + q * n);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const T left = a.data[r * a.row];
#pragma GCC unroll 2
      for (int q = 0; q < C; ++q) sums[r][q] += left * right[q];
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int q = 0; q < C; ++q) store(c + r * ldc + q * n, sums[r][q]);
}

// All rows of a times one panel: as many as registers hold, then 8, 4, 2, 1.
template <int R, int C, class T>
void panel(int64_t M, int64_t K, Strided<T> a, const T *packed, T *c, int64_t ldc, bool add) {
  for (; M >= R; M -= R, a.data += R * a.row, c += R * ldc) tile<R, C>(K, a, packed, c, ldc, add);
  if constexpr (R > 1) panel<(R > 8 ? 8 : R > 4 ? 4 : R / 2), C>(M, K, a, packed, c, ldc, add);
}

template <int C, class T>
void columns(int64_t M, int64_t N, int64_t K, Strided<T> a, const T *b, T *c, bool add, std::vector<T> &packed) {
  constexpr int64_t width = C * Lanes<T>::n;
  packed.resize(std::max<std::size_t>(packed.size(), K * width));
  for (int64_t k = 0; k < K; ++k) std::copy(b + k * N, b + k * N + width, &packed[k * width]);
  panel<kRows, C>(M, K, a, packed.data(), c, N, add);
}

// c [M, N] = a b, or c + a b; b [K, N] by rows, N a multiple of the lanes; `packed` is scratch space.
template <class T>
void product(int64_t M, int64_t N, int64_t K, Strided<T> a, const T *b, T *c, bool add, std::vector<T> &packed) {
  constexpr int64_t n = Lanes<T>::n;
  int64_t col = 0;
  for (; col + kCols * n <= N; col += kCols * n) columns<kCols>(M, N, K, a, b + col, c + col, add, packed);
  for (; col < N; col += n) columns<1>(M, N, K, a, b + col, c + col, add, packed);
}

} // namespace definet
