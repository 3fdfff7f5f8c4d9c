// Non-linear vector activation, eqs. 12 and 13, of mapped vectors l and their consensus c: l where <l, c> >= 0, else
// (l + c) / 2. l and the result [rows, 3, F], c [rows, 3].

#include <cstdint>

namespace definet {
namespace {

template <class T> void forward(int64_t rows, int64_t F, const T *l, const T *c, T *out) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const T *__restrict x = l + row * 3 * F, *__restrict y = x + F, *__restrict z = y + F, *a = c + row * 3;
    T *__restrict ox = out + row * 3 * F, *__restrict oy = ox + F, *__restrict oz = oy + F;
    const T cx = a[0], cy = a[1], cz = a[2];
#pragma omp simd
    for (int64_t f = 0; f < F; ++f) {
      const bool agrees = x[f] * cx + y[f] * cy + z[f] * cz >= 0;
      ox[f] = agrees ? x[f] : (x[f] + cx) / 2;
      oy[f] = agrees ? y[f] : (y[f] + cy) / 2;
      oz[f] = agrees ? z[f] : (z[f] + cz) / 2;
    }
  }
}

template <class T>
void backward(int64_t rows, int64_t F, const T *l, const T *c, const T *d_out, T *d_l, T *d_c) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const T *__restrict x = l + row * 3 * F, *__restrict y = x + F, *__restrict z = y + F, *a = c + row * 3;
    const T *__restrict dx = d_out + row * 3 * F, *__restrict dy = dx + F, *__restrict dz = dy + F;
    T *__restrict gx = d_l + row * 3 * F, *__restrict gy = gx + F, *__restrict gz = gy + F;
    const T cx = a[0], cy = a[1], cz = a[2];
    T sx = 0, sy = 0, sz = 0;
#pragma omp simd reduction(+ : sx, sy, sz)
    for (int64_t f = 0; f < F; ++f) {
      const bool agrees = x[f] * cx + y[f] * cy + z[f] * cz >= 0;
      const T kept = agrees ? T(1) : T(0.5), given = T(1) - kept;
      gx[f] = kept * dx[f];
      gy[f] = kept * dy[f];
      gz[f] = kept * dz[f];
      sx += given * dx[f];
      sy += given * dy[f];
      sz += given * dz[f];
    }
    d_c[row * 3] = sx;
    d_c[row * 3 + 1] = sy;
    d_c[row * 3 + 2] = sz;
  }
}

} // namespace
} // namespace definet

#define EXPORT(T, SUFFIX)                                                                                              \
  void activation_forward_##SUFFIX(int64_t rows, int64_t F, const T *l, const T *c, T *out) {                          \
    definet::forward<T>(rows, F, l, c, out);                                                                           \
  }                                                                                                                    \
  void activation_backward_##SUFFIX(int64_t rows, int64_t F, const T *l, const T *c, const T *d_out, T *d_l, T *d_c) { \
    definet::backward<T>(rows, F, l, c, d_out, d_l, d_c);                                                              \
  }

extern "C" {
EXPORT(float, float32)
EXPORT(double, float64)
}
