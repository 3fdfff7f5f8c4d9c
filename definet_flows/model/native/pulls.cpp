// RPV2Disp, eqs. 6 and 7: t_i = sum_j s_ij e_ij, s = w2 . ScaledSiLU(W1 q + b1) + b2, q = phi_j (g_j + g_i) rho_ij.
//
// Some hundred edges at a time go through the matrix products, in the cache. phi [B, N, F], gate [3, F], W1 [F, F] (row =
// output), b1 and w2 [F], t [B, N, 3]; the filter has F features.

#include "graph.hpp"

#include <cmath>

namespace definet {
namespace {

constexpr int64_t kBlock = 96; // edges, about: their rows stay in the cache beside W1
template <class T> constexpr T kSilu = T(1 / 0.6);

template <class T> struct Mlp {
  const T *w1, *w1_transposed, *b1, *w2;
  T b2;
};

template <class T> struct Inputs {
  int64_t F;
  const T *phi, *gate;
};

int64_t nodes_per_block(const Graph &graph) { return std::max<int64_t>(1, kBlock / graph.M); }

// One edge's row of q; phi and gate are the sender's and the pair's.
template <class T>
void products(const Edge<T> &edge, const Filter<T> &filter, int64_t F, const T *phi, const T *gate, T *q) {
  for (int64_t f = 0; f < F; f += Lanes<T>::n)
    store(q + f, load(phi + f) * load(gate + f) * interpolate(filter, edge.place.row, edge.place.weight, f));
}

template <class T> T readout(const Mlp<T> &mlp, int64_t F, const T *y) {
  const T *__restrict b = mlp.b1, *__restrict w = mlp.w2;
  T out = 0;
#pragma omp simd reduction(+ : out)
  for (int64_t f = 0; f < F; ++f) {
    const T a = y[f] + b[f];
    out += w[f] * a / (T(1) + std::exp(-a));
  }
  return kSilu<T> * out + mlp.b2;
}

template <class T>
void forward(const Graph &graph, const Geometry<T> &geometry, const Filter<T> &filter, const Inputs<T> &in,
             const Mlp<T> &mlp, T *t) {
  const int64_t F = in.F, nodes = graph.B * graph.N, step = nodes_per_block(graph);
  const auto gates = pair_gates(in.gate, F, T(1));
#pragma omp parallel
  {
    std::vector<Edge<T>> edges;
    std::vector<int64_t> centre;
    std::vector<T> q(step * graph.M * F), y(q.size()), scratch;
#pragma omp for schedule(static)
    for (int64_t first = 0; first < nodes; first += step) {
      edges.clear();
      centre.clear();
      for (int64_t node = first; node < std::min(nodes, first + step); ++node) {
        received(node, graph, geometry, filter, edges);
        centre.resize(edges.size(), node);
        std::fill(t + node * 3, t + node * 3 + 3, T(0));
      }
      const int64_t E = edges.size();
      for (int64_t e = 0; e < E; ++e)
        products(edges[e], filter, F, in.phi + edges[e].other * F, &gates[edges[e].pair * F], &q[e * F]);
      product<T>(E, F, F, {q.data(), F, 1}, mlp.w1_transposed, y.data(), false, scratch);
      for (int64_t e = 0; e < E; ++e) {
        const T s = readout(mlp, F, &y[e * F]);
        for (int x = 0; x < 3; ++x) t[centre[e] * 3 + x] += s * edges[e].unit[x];
      }
    }
  }
}

template <class T> struct Gradients {
  T *phi, *gate, *table, *distance, *unit, *w1, *b1, *w2, *b2; // distance and unit null where nobody asks
};

// One thread's share of what is summed over edges.
template <class T> struct Sums {
  std::vector<T> gates, table, w1, b1, w2;
  T b2 = 0;

  Sums(int64_t F, const Filter<T> &filter)
      : gates(kMarkers * kMarkers * F), table(filter.rows * 3 * filter.W), w1(F * F), b1(F), w2(F) {}

  void add_to_all(int64_t F, const Gradients<T> &d) const {
    add_gate_gradient(gates, F, T(1), d.gate);
    add_all(table, d.table);
    add_all(w1, d.w1);
    add_all(b1, d.b1);
    add_all(w2, d.w2);
    *d.b2 += b2;
  }
};

// y becomes d(loss)/dy, with d_s that of the edge's scalar; returns the scalar.
template <class T> T readout_backward(const Mlp<T> &mlp, int64_t F, T d_s, T *y, Sums<T> &sums) {
  const T *__restrict b = mlp.b1, *__restrict w = mlp.w2;
  T *__restrict db = sums.b1.data(), *__restrict dw = sums.w2.data(), *__restrict row = y;
  const T d = kSilu<T> * d_s;
  T out = 0;
#pragma omp simd reduction(+ : out)
  for (int64_t f = 0; f < F; ++f) {
    const T a = row[f] + b[f], sigmoid = T(1) / (T(1) + std::exp(-a)), silu = a * sigmoid;
    out += w[f] * silu;
    dw[f] += d * silu;
    row[f] = d * w[f] * (sigmoid + silu * (T(1) - sigmoid));
    db[f] += row[f];
  }
  sums.b2 += d_s;
  return kSilu<T> * out + mlp.b2;
}

// What one edge's d(loss)/dq says about its sender's phi, the gates, the table; returns d(loss)/d(distance).
template <class T>
T products_backward(const Edge<T> &edge, const Filter<T> &filter, int64_t F, const T *phi, const T *gate, const T *d_q,
                    bool bends, T *d_phi, Sums<T> &sums) {
  Vec<T> bend{};
  const int64_t row = edge.place.row;
  T *d_gate = &sums.gates[edge.pair * F];
  for (int64_t f = 0; f < F; f += Lanes<T>::n) {
    const Vec<T> p = load(phi + f), g = load(gate + f), dq = load(d_q + f);
    const Vec<T> r = interpolate(filter, row, edge.place.weight, f), dr = dq * p * g;
    add_to(d_phi + f, dq * g * r);
    add_to(d_gate + f, dq * p * r);
    add_table_gradient(filter, row, edge.place.weight, f, dr, sums.table.data());
    if (bends) bend += dr * interpolate(filter, row, edge.place.slope, f);
  }
  return sum<T>(bend) / filter.step;
}

template <class T>
void backward(const Graph &graph, const Geometry<T> &geometry, const Filter<T> &filter, const Inputs<T> &in,
              const Mlp<T> &mlp, const T *d_t, const Gradients<T> &d) {
  const int64_t F = in.F, nodes = graph.B * graph.N, step = nodes_per_block(graph);
  const auto gates = pair_gates(in.gate, F, T(1));
#pragma omp parallel
  {
    Sums<T> sums(F, filter);
    std::vector<Edge<T>> edges;
    std::vector<int64_t> senders;
    std::vector<T> q(step * graph.M * F), y(q.size()), scratch;
#pragma omp for schedule(static)
    for (int64_t first = 0; first < nodes; first += step) {
      edges.clear();
      senders.clear();
      for (int64_t node = first; node < std::min(nodes, first + step); ++node) {
        sent(node, graph, geometry, filter, edges);
        senders.resize(edges.size(), node);
        std::fill(d.phi + node * F, d.phi + (node + 1) * F, T(0));
      }
      const int64_t E = edges.size();
      for (int64_t e = 0; e < E; ++e)
        products(edges[e], filter, F, in.phi + senders[e] * F, &gates[edges[e].pair * F], &q[e * F]);
      product<T>(E, F, F, {q.data(), F, 1}, mlp.w1_transposed, y.data(), false, scratch);
      for (int64_t e = 0; e < E; ++e) {
        const T *dt = d_t + edges[e].other * 3, *u = edges[e].unit;
        const T s = readout_backward(mlp, F, dt[0] * u[0] + dt[1] * u[1] + dt[2] * u[2], &y[e * F], sums);
        for (int x = 0; d.unit && x < 3; ++x) d.unit[edges[e].slot * 3 + x] = s * dt[x];
      }
      product<T>(F, F, E, {y.data(), 1, F}, q.data(), sums.w1.data(), true, scratch);
      product<T>(E, F, F, {y.data(), F, 1}, mlp.w1, q.data(), false, scratch); // q holds d(loss)/dq from here on
      for (int64_t e = 0; e < E; ++e) {
        const T bend = products_backward(edges[e], filter, F, in.phi + senders[e] * F, &gates[edges[e].pair * F],
                                         &q[e * F], d.distance != nullptr, d.phi + senders[e] * F, sums);
        if (d.distance) d.distance[edges[e].slot] = bend;
      }
    }
#pragma omp critical
    sums.add_to_all(F, d);
  }
}

} // namespace
} // namespace definet

#define EXPORT(T, SUFFIX)                                                                                              \
  void pulls_forward_##SUFFIX(const definet::Graph *graph, const T *distance, const T *unit, int64_t shared,           \
                              const T *table, int64_t rows, double step, int64_t F, const T *phi, const T *gate,       \
                              const T *w1, const T *w1_transposed, const T *b1, const T *w2, double b2, T *t) {        \
    definet::forward<T>(*graph, {distance, unit, shared}, {table, rows, F, T(step)}, {F, phi, gate},                   \
                        {w1, w1_transposed, b1, w2, T(b2)}, t);                                                        \
  }                                                                                                                    \
  void pulls_backward_##SUFFIX(const definet::Graph *graph, const T *distance, const T *unit, int64_t shared,          \
                               const T *table, int64_t rows, double step, int64_t F, const T *phi, const T *gate,      \
                               const T *w1, const T *w1_transposed, const T *b1, const T *w2, double b2,               \
                               const T *d_t, T *d_phi, T *d_gate, T *d_table, T *d_distance, T *d_unit, T *d_w1,       \
                               T *d_b1, T *d_w2, T *d_b2) {                                                            \
    definet::backward<T>(*graph, {distance, unit, shared}, {table, rows, F, T(step)}, {F, phi, gate},                  \
                         {w1, w1_transposed, b1, w2, T(b2)}, d_t,                                                      \
                         {d_phi, d_gate, d_table, d_distance, d_unit, d_w1, d_b1, d_w2, d_b2});                        \
  }

extern "C" {
EXPORT(float, float32)
EXPORT(double, float64)
}
