// Fused edge operations of DefiNet on one neighbour table shared by a batch (see kernels.py for their meaning).
//
// Every loop runs over the rows of the table that one node owns, forwards as receiver, backwards as sender: the
// reversed edge of each edge is in the table, so no two threads write to one place and sums keep one order.
//
// Shapes: B structures, N sites, M slots per site, F features, K Gaussians. table, reverse [N, M]; mask [N, M] or null;
// markers [B, N] in 0..2. `shared` is 1 where an edge array has no batch axis (layer 0: all start from one lattice).

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int kMarkers = 3;

struct Graph {
  int64_t B, N, M;
  const int32_t *table, *reverse;
  const uint8_t *mask;
  const int32_t *markers;
};

// gates[a * 3 + b] = gate[a] + gate[b]: what (g_j + g_i) can be
template <class T> std::vector<T> pair_gates(const T *gate, int64_t width) {
  std::vector<T> out(kMarkers * kMarkers * width);
  for (int a = 0; a < kMarkers; ++a)
    for (int b = 0; b < kMarkers; ++b)
      for (int64_t f = 0; f < width; ++f)
        out[(a * kMarkers + b) * width + f] = gate[a * width + f] + gate[b * width + f];
  return out;
}

// d(gate) from d(gates), both nodes of an edge taking the same share
template <class T> void add_gate_gradient(const std::vector<T> &pairs, int64_t width, T *d_gate) {
  for (int a = 0; a < kMarkers; ++a)
    for (int b = 0; b < kMarkers; ++b)
      for (int64_t f = 0; f < width; ++f) {
        const T value = pairs[(a * kMarkers + b) * width + f];
        d_gate[a * width + f] += value;
        d_gate[b * width + f] += value;
      }
}

template <class T>
void message_forward(const Graph &graph, int64_t F, int64_t shared, T scale, const T *phi, const T *gate, const T *v,
                     const T *rho, const T *unit, T *moved, T *h) {
  const auto gates = pair_gates(gate, 3 * F);
  const int64_t N = graph.N, M = graph.M;
#pragma omp parallel for schedule(static)
  for (int64_t node = 0; node < graph.B * N; ++node) {
    const int64_t b = node / N, i = node % N;
    T *__restrict hi = h + node * F, *__restrict mx = moved + node * 3 * F, *__restrict my = mx + F,
                *__restrict mz = my + F;
    std::memset(hi, 0, F * sizeof(T));
    std::memset(mx, 0, 3 * F * sizeof(T));
    for (int64_t slot = i * M; slot < (i + 1) * M; ++slot) {
      if (graph.mask && !graph.mask[slot]) continue;
      const int64_t j = b * N + graph.table[slot], edge = (shared ? 0 : b * N * M) + slot;
      const T *__restrict p = phi + j * 3 * F, *__restrict r = rho + edge * 3 * F,
                          *__restrict vj = v + j * 3 * F;
      const T *__restrict g = &gates[(graph.markers[j] * kMarkers + graph.markers[node]) * 3 * F];
      const T ex = unit[edge * 3], ey = unit[edge * 3 + 1], ez = unit[edge * 3 + 2];
#pragma omp simd
      for (int64_t f = 0; f < F; ++f) {
        const T a = scale * p[f] * g[f] * r[f];
        const T c = scale * p[F + f] * g[F + f] * r[F + f];
        mx[f] += a * vj[f] + c * ex;
        my[f] += a * vj[F + f] + c * ey;
        mz[f] += a * vj[2 * F + f] + c * ez;
        hi[f] += scale * p[2 * F + f] * g[2 * F + f] * r[2 * F + f];
      }
    }
  }
}

template <class T>
void message_backward(const Graph &graph, int64_t F, int64_t shared, T scale, const T *phi, const T *gate, const T *v,
                      const T *rho, const T *unit, const T *d_moved, const T *d_h, T *d_phi, T *d_gate, T *d_v,
                      T *d_rho, T *d_unit) {
  const auto gates = pair_gates(gate, 3 * F);
  const int64_t N = graph.N, M = graph.M;
#pragma omp parallel
  {
    std::vector<T> d_gates(kMarkers * kMarkers * 3 * F, T(0));
#pragma omp for schedule(static)
    for (int64_t node = 0; node < graph.B * N; ++node) {
      const int64_t b = node / N, j = node % N;
      const T *__restrict p = phi + node * 3 * F, *__restrict vj = v + node * 3 * F;
      T *__restrict dp = d_phi + node * 3 * F, *__restrict dv = d_v + node * 3 * F;
      std::memset(dp, 0, 3 * F * sizeof(T));
      std::memset(dv, 0, 3 * F * sizeof(T));
      for (int64_t slot = j * M; slot < (j + 1) * M; ++slot) {
        const int64_t sent = graph.reverse[slot]; // slot of the edge j -> i, in i's row
        const int64_t target = b * N + sent / M, edge = (shared ? 0 : b * N * M) + sent, out = b * N * M + sent;
        T *__restrict dr = d_rho + out * 3 * F, *du = d_unit + out * 3;
        if (graph.mask && !graph.mask[sent]) {
          std::memset(dr, 0, 3 * F * sizeof(T));
          du[0] = du[1] = du[2] = 0;
          continue;
        }
        const T *__restrict r = rho + edge * 3 * F;
        const T *__restrict mx = d_moved + target * 3 * F, *__restrict my = mx + F, *__restrict mz = my + F;
        const T *__restrict dh = d_h + target * F;
        const int64_t pair = (graph.markers[node] * kMarkers + graph.markers[target]) * 3 * F;
        const T *__restrict g = &gates[pair];
        T *__restrict dg = &d_gates[pair];
        const T ex = unit[edge * 3], ey = unit[edge * 3 + 1], ez = unit[edge * 3 + 2];
        T sx = 0, sy = 0, sz = 0;
#pragma omp simd reduction(+ : sx, sy, sz)
        for (int64_t f = 0; f < F; ++f) {
          const T da = scale * (mx[f] * vj[f] + my[f] * vj[F + f] + mz[f] * vj[2 * F + f]);
          const T dc = scale * (mx[f] * ex + my[f] * ey + mz[f] * ez);
          const T dd = scale * dh[f];
          const T pg0 = p[f] * g[f], pg1 = p[F + f] * g[F + f], pg2 = p[2 * F + f] * g[2 * F + f];
          const T r0 = r[f], r1 = r[F + f], r2 = r[2 * F + f];
          dr[f] = da * pg0;
          dr[F + f] = dc * pg1;
          dr[2 * F + f] = dd * pg2;
          dp[f] += da * g[f] * r0;
          dp[F + f] += dc * g[F + f] * r1;
          dp[2 * F + f] += dd * g[2 * F + f] * r2;
          dg[f] += da * p[f] * r0;
          dg[F + f] += dc * p[F + f] * r1;
          dg[2 * F + f] += dd * p[2 * F + f] * r2;
          const T a = scale * pg0 * r0, c = scale * pg1 * r1;
          dv[f] += a * mx[f];
          dv[F + f] += a * my[f];
          dv[2 * F + f] += a * mz[f];
          sx += c * mx[f];
          sy += c * my[f];
          sz += c * mz[f];
        }
        du[0] = sx;
        du[1] = sy;
        du[2] = sz;
      }
    }
#pragma omp critical
    add_gate_gradient(d_gates, 3 * F, d_gate);
  }
}

template <class T>
void product_forward(const Graph &graph, int64_t F, int64_t shared, const T *phi, const T *gate, const T *rho, T *out) {
  const auto gates = pair_gates(gate, F);
  const int64_t N = graph.N, M = graph.M;
#pragma omp parallel for schedule(static)
  for (int64_t node = 0; node < graph.B * N; ++node) {
    const int64_t b = node / N, i = node % N;
    for (int64_t slot = i * M; slot < (i + 1) * M; ++slot) {
      const int64_t j = b * N + graph.table[slot], edge = (shared ? 0 : b * N * M) + slot;
      const T *__restrict p = phi + j * F, *__restrict r = rho + edge * F;
      const T *__restrict g = &gates[(graph.markers[j] * kMarkers + graph.markers[node]) * F];
      T *__restrict q = out + (b * N * M + slot) * F;
#pragma omp simd
      for (int64_t f = 0; f < F; ++f) q[f] = p[f] * g[f] * r[f];
    }
  }
}

template <class T>
void product_backward(const Graph &graph, int64_t F, int64_t shared, const T *phi, const T *gate, const T *rho,
                      const T *d_out, T *d_phi, T *d_gate, T *d_rho) {
  const auto gates = pair_gates(gate, F);
  const int64_t N = graph.N, M = graph.M;
#pragma omp parallel
  {
    std::vector<T> d_gates(kMarkers * kMarkers * F, T(0));
#pragma omp for schedule(static)
    for (int64_t node = 0; node < graph.B * N; ++node) {
      const int64_t b = node / N, j = node % N;
      const T *__restrict p = phi + node * F;
      T *__restrict dp = d_phi + node * F;
      std::memset(dp, 0, F * sizeof(T));
      for (int64_t slot = j * M; slot < (j + 1) * M; ++slot) {
        const int64_t sent = graph.reverse[slot];
        const int64_t target = b * N + sent / M, edge = (shared ? 0 : b * N * M) + sent, o = b * N * M + sent;
        const T *__restrict r = rho + edge * F, *__restrict dq = d_out + o * F;
        const int64_t pair = (graph.markers[node] * kMarkers + graph.markers[target]) * F;
        const T *__restrict g = &gates[pair];
        T *__restrict dg = &d_gates[pair], *__restrict dr = d_rho + o * F;
#pragma omp simd
        for (int64_t f = 0; f < F; ++f) {
          const T dqp = dq[f] * p[f], gr = g[f] * r[f];
          dr[f] = dqp * g[f];
          dp[f] += dq[f] * gr;
          dg[f] += dqp * r[f];
        }
      }
    }
#pragma omp critical
    add_gate_gradient(d_gates, F, d_gate);
  }
}

template <class T> void readout_forward(int64_t E, int64_t F, const T *y, const T *weight, T bias, T *s) {
#pragma omp parallel for schedule(static)
  for (int64_t e = 0; e < E; ++e) {
    const T *__restrict row = y + e * F;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t f = 0; f < F; ++f) sum += weight[f] * row[f] / (T(1) + std::exp(-row[f]));
    s[e] = sum / T(0.6) + bias;
  }
}

template <class T>
void readout_backward(int64_t E, int64_t F, const T *y, const T *weight, const T *d_s, T *d_y, T *d_weight) {
#pragma omp parallel
  {
    std::vector<T> local(F, T(0));
    T *__restrict dw = local.data();
#pragma omp for schedule(static)
    for (int64_t e = 0; e < E; ++e) {
      const T *__restrict row = y + e * F;
      T *__restrict d = d_y + e * F;
      const T ds = d_s[e] / T(0.6);
#pragma omp simd
      for (int64_t f = 0; f < F; ++f) {
        const T sigmoid = T(1) / (T(1) + std::exp(-row[f])), silu = row[f] * sigmoid;
        dw[f] += ds * silu;
        d[f] = ds * weight[f] * (sigmoid + silu * (T(1) - sigmoid));
      }
    }
#pragma omp critical
    for (int64_t f = 0; f < F; ++f) d_weight[f] += dw[f];
  }
}

// A Gaussian more than kReach widths away (below 2e-11) is zero: it would only feed denormal numbers to the matrix
// products that follow, which slows them down badly.
constexpr int kReach = 7;

// exp(-x^2 / 2) times the envelope, x = (u - k spacing) / spacing, u = d / extent
template <class T>
void radial_forward(int64_t E, int64_t K, T extent, T spacing, const T *distance, T *out) {
#pragma omp parallel for schedule(static)
  for (int64_t e = 0; e < E; ++e) {
    const T u = distance[e] / extent, u5 = u * u * u * u * u;
    const T envelope = u < T(1) ? T(1) + u5 * (T(-21) + u * (T(35) - T(15) * u)) : T(0);
    T *__restrict row = out + e * K;
#pragma omp simd
    for (int64_t k = 0; k < K; ++k) {
      const T x = u / spacing - T(k);
      row[k] = x * x < T(kReach * kReach) ? envelope * std::exp(T(-0.5) * x * x) : T(0);
    }
  }
}

template <class T>
void radial_backward(int64_t E, int64_t K, T extent, T spacing, const T *distance, const T *d_out, T *d_distance) {
#pragma omp parallel for schedule(static)
  for (int64_t e = 0; e < E; ++e) {
    const T u = distance[e] / extent, u4 = u * u * u * u;
    const T envelope = u < T(1) ? T(1) + u4 * u * (T(-21) + u * (T(35) - T(15) * u)) : T(0);
    const T slope = u < T(1) ? T(-105) * u4 * (T(1) - u) * (T(1) - u) : T(0);
    const T *__restrict d = d_out + e * K;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < K; ++k) {
      const T x = u / spacing - T(k);
      const T value = d[k] * std::exp(T(-0.5) * x * x) * (slope - envelope * x / spacing);
      sum += x * x < T(kReach * kReach) ? value : T(0);
    }
    d_distance[e] = sum / extent;
  }
}

} // namespace

#define EXPORT(T, SUFFIX)                                                                                              \
  void message_forward_##SUFFIX(const Graph *graph, int64_t F, int64_t shared, double scale, const T *phi,             \
                                const T *gate, const T *v, const T *rho, const T *unit, T *moved, T *h) {              \
    message_forward<T>(*graph, F, shared, T(scale), phi, gate, v, rho, unit, moved, h);                                \
  }                                                                                                                    \
  void message_backward_##SUFFIX(const Graph *graph, int64_t F, int64_t shared, double scale, const T *phi,            \
                                 const T *gate, const T *v, const T *rho, const T *unit, const T *d_moved,             \
                                 const T *d_h, T *d_phi, T *d_gate, T *d_v, T *d_rho, T *d_unit) {                     \
    message_backward<T>(*graph, F, shared, T(scale), phi, gate, v, rho, unit, d_moved, d_h, d_phi, d_gate, d_v, d_rho, \
                        d_unit);                                                                                       \
  }                                                                                                                    \
  void product_forward_##SUFFIX(const Graph *graph, int64_t F, int64_t shared, const T *phi, const T *gate,            \
                                const T *rho, T *out) {                                                                \
    product_forward<T>(*graph, F, shared, phi, gate, rho, out);                                                        \
  }                                                                                                                    \
  void product_backward_##SUFFIX(const Graph *graph, int64_t F, int64_t shared, const T *phi, const T *gate,           \
                                 const T *rho, const T *d_out, T *d_phi, T *d_gate, T *d_rho) {                        \
    product_backward<T>(*graph, F, shared, phi, gate, rho, d_out, d_phi, d_gate, d_rho);                               \
  }                                                                                                                    \
  void readout_forward_##SUFFIX(int64_t E, int64_t F, const T *y, const T *weight, double bias, T *s) {                \
    readout_forward<T>(E, F, y, weight, T(bias), s);                                                                   \
  }                                                                                                                    \
  void readout_backward_##SUFFIX(int64_t E, int64_t F, const T *y, const T *weight, const T *d_s, T *d_y,              \
                                 T *d_weight) {                                                                        \
    readout_backward<T>(E, F, y, weight, d_s, d_y, d_weight);                                                          \
  }                                                                                                                    \
  void radial_forward_##SUFFIX(int64_t E, int64_t K, double extent, double spacing, const T *distance, T *out) {       \
    radial_forward<T>(E, K, T(extent), T(spacing), distance, out);                                                     \
  }                                                                                                                    \
  void radial_backward_##SUFFIX(int64_t E, int64_t K, double extent, double spacing, const T *distance,                \
                                const T *d_out, T *d_distance) {                                                       \
    radial_backward<T>(E, K, T(extent), T(spacing), distance, d_out, d_distance);                                      \
  }

extern "C" {
EXPORT(float, float32)
EXPORT(double, float64)
}
