// Fused edge operations of DefiNet on one neighbour table shared by a batch (see kernels.py for their meaning).
//
// Every loop runs over the rows of the table that one node owns, forwards as receiver, backwards as sender: the
// reversed edge of each edge is in the table, so no two threads write to one place and sums keep one order.
//
// Shapes: B structures, N sites, M slots per site, F features, K Gaussians. table, reverse [N, M]; mask [N, M] or null;
// markers [B, N] in 0..2. `shared` is 1 where an edge array has no batch axis (layer 0: all start from one lattice).

#include <algorithm>
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

// Where a distance lies between two rows of a table, and the quintic Hermite weights (or their slopes, by rows) of
// value, first and second derivative of the row below, then of the row above.
template <class T> struct Place {
  int64_t row;
  T weight[6], slope[6];

  Place(T distance, T step, int64_t rows) {
    const T s = distance / step;
    row = std::min(std::max(int64_t(s), int64_t(0)), rows - 2);
    const T t = s - T(row), t2 = t * t, t3 = t2 * t, t4 = t2 * t2, t5 = t4 * t;
    const T w[6] = {1 - 10 * t3 + 15 * t4 - 6 * t5,          t - 6 * t3 + 8 * t4 - 3 * t5,
                    T(0.5) * (t2 - 3 * t3 + 3 * t4 - t5),    10 * t3 - 15 * t4 + 6 * t5,
                    -4 * t3 + 7 * t4 - 3 * t5,               T(0.5) * (t3 - 2 * t4 + t5)};
    const T d[6] = {-30 * t2 + 60 * t3 - 30 * t4,                      1 - 18 * t2 + 32 * t3 - 15 * t4,
                    T(0.5) * (2 * t - 9 * t2 + 12 * t3 - 5 * t4),      30 * t2 - 60 * t3 + 30 * t4,
                    -12 * t2 + 28 * t3 - 15 * t4,                      T(0.5) * (3 * t2 - 8 * t3 + 5 * t4)};
    std::copy(w, w + 6, weight);
    std::copy(d, d + 6, slope);
  }
};

template <class T>
void interpolation_forward(int64_t E, int64_t rows, int64_t W, T step, const T *distance, const T *table, T *out) {
#pragma omp parallel for schedule(static)
  for (int64_t e = 0; e < E; ++e) {
    const Place<T> at(distance[e], step, rows);
    const T *__restrict r = table + at.row * 3 * W;
    T *__restrict o = out + e * W;
    const T w0 = at.weight[0], w1 = at.weight[1], w2 = at.weight[2], w3 = at.weight[3], w4 = at.weight[4],
            w5 = at.weight[5];
#pragma omp simd
    for (int64_t f = 0; f < W; ++f)
      o[f] = w0 * r[f] + w1 * r[W + f] + w2 * r[2 * W + f] + w3 * r[3 * W + f] + w4 * r[4 * W + f] + w5 * r[5 * W + f];
  }
}

template <class T>
void interpolation_backward(int64_t E, int64_t rows, int64_t W, T step, const T *distance, const T *table,
                            const T *d_out, T *d_distance, T *d_table) {
#pragma omp parallel
  {
    std::vector<T> local(rows * 3 * W, T(0));
#pragma omp for schedule(static)
    for (int64_t e = 0; e < E; ++e) {
      const Place<T> at(distance[e], step, rows);
      const T *__restrict r = table + at.row * 3 * W, *__restrict d = d_out + e * W;
      T *__restrict g = local.data() + at.row * 3 * W;
      const T w0 = at.weight[0], w1 = at.weight[1], w2 = at.weight[2], w3 = at.weight[3], w4 = at.weight[4],
              w5 = at.weight[5];
      const T s0 = at.slope[0], s1 = at.slope[1], s2 = at.slope[2], s3 = at.slope[3], s4 = at.slope[4],
              s5 = at.slope[5];
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t f = 0; f < W; ++f) {
        const T df = d[f];
        sum += df * (s0 * r[f] + s1 * r[W + f] + s2 * r[2 * W + f] + s3 * r[3 * W + f] + s4 * r[4 * W + f] +
                     s5 * r[5 * W + f]);
        g[f] += w0 * df;
        g[W + f] += w1 * df;
        g[2 * W + f] += w2 * df;
        g[3 * W + f] += w3 * df;
        g[4 * W + f] += w4 * df;
        g[5 * W + f] += w5 * df;
      }
      d_distance[e] = sum / step;
    }
#pragma omp critical
    for (int64_t k = 0; k < rows * 3 * W; ++k) d_table[k] += local[k];
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
  void interpolation_forward_##SUFFIX(int64_t E, int64_t rows, int64_t W, double step, const T *distance,              \
                                      const T *table, T *out) {                                                        \
    interpolation_forward<T>(E, rows, W, T(step), distance, table, out);                                               \
  }                                                                                                                    \
  void interpolation_backward_##SUFFIX(int64_t E, int64_t rows, int64_t W, double step, const T *distance,             \
                                       const T *table, const T *d_out, T *d_distance, T *d_table) {                    \
    interpolation_backward<T>(E, rows, W, T(step), distance, table, d_out, d_distance, d_table);                       \
  }

extern "C" {
EXPORT(float, float32)
EXPORT(double, float64)
}
