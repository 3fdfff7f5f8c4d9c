// RPV2Disp, eqs. 6 and 7: t_i = sum_j s_ij e_ij, s = w2 . ScaledSiLU(W1 q + b1) + b2, q = phi_j (g_j + g_i) rho_ij.
//
// Some hundred rows q at a time go through the matrix products, in the cache. At lattice distances a sender has few
// different ones: a row a shell and marker, not an edge. phi [B, N, F], gate [4, F], W1 [F, F] (row = output), b1 and w2
// [F], t [B, N, 3]; the filter has F features.

#include "graph.hpp"

#include <cmath>
#include <limits>

namespace definet {
namespace {

constexpr int64_t kBlock = 96; // rows, at least: they stay in the cache beside W1
template <class T> constexpr T kSilu = T(1 / 0.6);
template <class T> constexpr T kSame = 64 * std::numeric_limits<T>::epsilon(); // Å: what positions are rounded by

template <class T> struct Mlp {
  const T *w1, *w1_transposed, *b1, *w2;
  T b2;
};

template <class T> struct Inputs {
  int64_t F;
  const T *phi, *gate;
};

// Edges whose rows go through the products together, and the rows.
template <class T> struct Block {
  std::vector<Edge<T>> edges;
  std::vector<int64_t> row, first, sender; // of each edge its row; of each row its first edge and its sender
  std::vector<T> q, y, scratch;

  // Append the edges that a node sends. Those of one pair of markers and, if `merge`, one distance share a row; a table's
  // rows go by distance, so that the last row of the pair is the only candidate.
  void add(int64_t node, const Graph &graph, const Geometry<T> &geometry, const Filter<T> &filter, bool merge) {
    int64_t last[kMarkers * kMarkers];
    std::fill(last, last + kMarkers * kMarkers, int64_t(-1));
    sent(node, graph, geometry, filter, edges);
    for (std::size_t e = row.size(); e < edges.size(); ++e) {
      int64_t &r = last[edges[e].pair];
      if (!merge || r < 0 || std::abs(edges[first[r]].distance - edges[e].distance) > kSame<T>) {
        r = first.size();
        first.push_back(e);
        sender.push_back(node);
      }
      row.push_back(r);
    }
  }

  int64_t rows() const { return first.size(); }
  const Edge<T> &edge(int64_t r) const { return edges[first[r]]; }

  void clear() {
    edges.clear();
    for (auto *indices : {&row, &first, &sender}) indices->clear();
  }
};

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

// q of a block's rows, and y = q W1^T.
template <class T>
void first_layer(Block<T> &block, const Filter<T> &filter, const Inputs<T> &in, const std::vector<T> &gates,
                 const Mlp<T> &mlp) {
  const int64_t F = in.F, R = block.rows();
  for (auto *rows : {&block.q, &block.y}) rows->resize(std::max<std::size_t>(rows->size(), R * F));
  for (int64_t r = 0; r < R; ++r)
    products(block.edge(r), filter, F, in.phi + block.sender[r] * F, &gates[block.edge(r).pair * F], &block.q[r * F]);
  product<T>(R, F, F, {block.q.data(), F, 1}, mlp.w1_transposed, block.y.data(), false, block.scratch);
}

// Scalars of the edges of all senders, into their slots [B, N, M].
template <class T>
void scalars(const Graph &graph, const Geometry<T> &geometry, const Filter<T> &filter, const Inputs<T> &in,
             const Mlp<T> &mlp, T *out) {
  const auto gates = pair_gates(in.gate, in.F, T(1));
#pragma omp parallel
  {
    Block<T> block;
    std::vector<T> s;
    const auto flush = [&] {
      first_layer(block, filter, in, gates, mlp);
      s.resize(block.rows());
      for (int64_t r = 0; r < block.rows(); ++r) s[r] = readout(mlp, in.F, &block.y[r * in.F]);
      for (std::size_t e = 0; e < block.edges.size(); ++e) out[block.edges[e].slot] = s[block.row[e]];
      block.clear();
    };
#pragma omp for schedule(static)
    for (int64_t node = 0; node < graph.B * graph.N; ++node) {
      block.add(node, graph, geometry, filter, true);
      if (block.rows() >= kBlock) flush();
    }
    flush();
  }
}

template <class T>
void forward(const Graph &graph, const Geometry<T> &geometry, const Filter<T> &filter, const Inputs<T> &in,
             const Mlp<T> &mlp, T *t) {
  std::vector<T> s(graph.B * graph.N * graph.M);
  scalars(graph, geometry, filter, in, mlp, s.data());
#pragma omp parallel for schedule(static)
  for (int64_t node = 0; node < graph.B * graph.N; ++node) {
    const int64_t first = node * graph.M, own = node % graph.N * graph.M;
    T x = 0, y = 0, z = 0;
    for (int64_t m = 0; m < graph.M; ++m) { // nobody sends to padding: s is zero there
      const T *unit = geometry.unit + 3 * (geometry.shared ? own + m : first + m);
      x += s[first + m] * unit[0];
      y += s[first + m] * unit[1];
      z += s[first + m] * unit[2];
    }
    t[node * 3] = x;
    t[node * 3 + 1] = y;
    t[node * 3 + 2] = z;
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

// What a block says about every gradient. Rows hold one edge each where distances are asked about.
template <class T>
void block_backward(Block<T> &block, const Filter<T> &filter, const Inputs<T> &in, const std::vector<T> &gates,
                    const Mlp<T> &mlp, const T *d_t, const Gradients<T> &d, Sums<T> &sums) {
  const int64_t F = in.F, R = block.rows();
  first_layer(block, filter, in, gates, mlp);
  std::vector<T> d_s(R, T(0));
  for (std::size_t e = 0; e < block.edges.size(); ++e) {
    const T *dt = d_t + block.edges[e].other * 3, *u = block.edges[e].unit;
    d_s[block.row[e]] += dt[0] * u[0] + dt[1] * u[1] + dt[2] * u[2];
  }
  for (int64_t r = 0; r < R; ++r) {
    const T s = readout_backward(mlp, F, d_s[r], &block.y[r * F], sums);
    for (int x = 0; d.unit && x < 3; ++x) d.unit[block.edge(r).slot * 3 + x] = s * d_t[block.edge(r).other * 3 + x];
  }
  product<T>(F, F, R, {block.y.data(), 1, F}, block.q.data(), sums.w1.data(), true, block.scratch);
  product<T>(R, F, F, {block.y.data(), F, 1}, mlp.w1, block.q.data(), false, block.scratch); // q: d(loss)/dq from here
  for (int64_t r = 0; r < R; ++r) {
    const int64_t at = block.sender[r] * F;
    const T bend = products_backward(block.edge(r), filter, F, in.phi + at, &gates[block.edge(r).pair * F],
                                     &block.q[r * F], d.distance != nullptr, d.phi + at, sums);
    if (d.distance) d.distance[block.edge(r).slot] = bend;
  }
}

template <class T>
void backward(const Graph &graph, const Geometry<T> &geometry, const Filter<T> &filter, const Inputs<T> &in,
              const Mlp<T> &mlp, const T *d_t, const Gradients<T> &d) {
  const auto gates = pair_gates(in.gate, in.F, T(1));
#pragma omp parallel
  {
    Sums<T> sums(in.F, filter);
    Block<T> block;
    const auto flush = [&] {
      block_backward(block, filter, in, gates, mlp, d_t, d, sums);
      block.clear();
    };
#pragma omp for schedule(static)
    for (int64_t node = 0; node < graph.B * graph.N; ++node) {
      std::fill(d.phi + node * in.F, d.phi + (node + 1) * in.F, T(0));
      block.add(node, graph, geometry, filter, d.distance == nullptr);
      if (block.rows() >= kBlock) flush();
    }
    flush();
#pragma omp critical
    sums.add_to_all(in.F, d);
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
