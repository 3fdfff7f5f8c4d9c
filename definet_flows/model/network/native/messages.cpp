// Defect-aware message passing, eqs. 1 and 2: sums over the neighbours of each node, edge by edge, nothing stored.
//
// phi [B, N, 3F], gate [4, 3F], v and moved [B, N, 3, F], h [B, N, F]; the filter has 3F features.

#include "graph.hpp"

#include <cmath>

namespace definet {
namespace {

template <class T>
void forward(const Graph &graph, const Geometry<T> &geometry, const Filter<T> &filter, int64_t F, const T *phi,
             const T *gate, const T *v, T *moved, T *h) {
  const auto gates = pair_gates(gate, 3 * F, T(1 / std::sqrt(3.0)));
#pragma omp parallel
  {
    std::vector<Edge<T>> edges;
#pragma omp for schedule(static)
    for (int64_t node = 0; node < graph.B * graph.N; ++node) {
      edges.clear();
      received(node, graph, geometry, filter, edges);
      for (int64_t f = 0; f < F; f += Lanes<T>::n) {
        Vec<T> x{}, y{}, z{}, s{};
        for (const Edge<T> &edge : edges) {
          const T *p = phi + edge.other * 3 * F + f, *g = &gates[edge.pair * 3 * F + f],
                  *vj = v + edge.other * 3 * F + f, *w = edge.place.weight;
          const Vec<T> a = load(p) * load(g) * interpolate(filter, edge.place.row, w, f);
          const Vec<T> c = load(p + F) * load(g + F) * interpolate(filter, edge.place.row, w, F + f);
          x += a * load(vj) + c * edge.unit[0];
          y += a * load(vj + F) + c * edge.unit[1];
          z += a * load(vj + 2 * F) + c * edge.unit[2];
          s += load(p + 2 * F) * load(g + 2 * F) * interpolate(filter, edge.place.row, w, 2 * F + f);
        }
        T *out = moved + node * 3 * F + f;
        store(out, x);
        store(out + F, y);
        store(out + 2 * F, z);
        store(h + node * F + f, s);
      }
    }
  }
}

// What one sender's edges say about their geometry, summed over lanes at the end.
template <class T> struct Bends {
  Vec<T> distance{}, unit[3]{};
};

template <class T> struct Gradients {
  T *phi, *gate, *v, *table, *distance, *unit; // the last two null where nobody asks, else [B, N, M], [B, N, M, 3]
};

// All lanes from f on of one sender's edges.
template <class T>
void sender(int64_t node, int64_t f, int64_t F, const Filter<T> &filter, const std::vector<Edge<T>> &edges,
            const T *phi, const T *gates, const T *v, const T *d_moved, const T *d_h, const Gradients<T> &d,
            T *d_gates, T *d_table, Bends<T> *bends) {
  const T *p = phi + node * 3 * F + f, *vj = v + node * 3 * F + f;
  const Vec<T> p0 = load(p), p1 = load(p + F), p2 = load(p + 2 * F);
  const Vec<T> vx = load(vj), vy = load(vj + F), vz = load(vj + 2 * F);
  Vec<T> dp0{}, dp1{}, dp2{}, dvx{}, dvy{}, dvz{};
  for (std::size_t k = 0; k < edges.size(); ++k) {
    const Edge<T> &edge = edges[k];
    const int64_t row = edge.place.row;
    const T *m = d_moved + edge.other * 3 * F + f, *g = gates + edge.pair * 3 * F + f, *w = edge.place.weight,
            *slope = edge.place.slope;
    const Vec<T> mx = load(m), my = load(m + F), mz = load(m + 2 * F), dd = load(d_h + edge.other * F + f);
    const Vec<T> da = mx * vx + my * vy + mz * vz;
    const Vec<T> dc = mx * edge.unit[0] + my * edge.unit[1] + mz * edge.unit[2];
    const Vec<T> g0 = load(g), g1 = load(g + F), g2 = load(g + 2 * F);
    const Vec<T> r0 = interpolate(filter, row, w, f), r1 = interpolate(filter, row, w, F + f),
                 r2 = interpolate(filter, row, w, 2 * F + f);
    const Vec<T> dr0 = da * p0 * g0, dr1 = dc * p1 * g1, dr2 = dd * p2 * g2;
    add_table_gradient(filter, row, w, f, dr0, d_table);
    add_table_gradient(filter, row, w, F + f, dr1, d_table);
    add_table_gradient(filter, row, w, 2 * F + f, dr2, d_table);
    const Vec<T> e0 = da * r0, e1 = dc * r1, e2 = dd * r2;
    dp0 += e0 * g0;
    dp1 += e1 * g1;
    dp2 += e2 * g2;
    T *dg = d_gates + edge.pair * 3 * F + f;
    add_to(dg, e0 * p0);
    add_to(dg + F, e1 * p1);
    add_to(dg + 2 * F, e2 * p2);
    const Vec<T> a = p0 * g0 * r0;
    dvx += a * mx;
    dvy += a * my;
    dvz += a * mz;
    if (d.distance) {
      const Vec<T> c = p1 * g1 * r1;
      Bends<T> &bend = bends[k];
      bend.distance += dr0 * interpolate(filter, row, slope, f) + dr1 * interpolate(filter, row, slope, F + f) +
                       dr2 * interpolate(filter, row, slope, 2 * F + f);
      bend.unit[0] += c * mx;
      bend.unit[1] += c * my;
      bend.unit[2] += c * mz;
    }
  }
  T *dp = d.phi + node * 3 * F + f, *dv = d.v + node * 3 * F + f;
  store(dp, dp0);
  store(dp + F, dp1);
  store(dp + 2 * F, dp2);
  store(dv, dvx);
  store(dv + F, dvy);
  store(dv + 2 * F, dvz);
}

template <class T>
void backward(const Graph &graph, const Geometry<T> &geometry, const Filter<T> &filter, int64_t F, const T *phi,
              const T *gate, const T *v, const T *d_moved, const T *d_h, const Gradients<T> &d) {
  const T scale = T(1 / std::sqrt(3.0));
  const auto gates = pair_gates(gate, 3 * F, scale);
#pragma omp parallel
  {
    std::vector<T> d_gates(gates.size(), T(0)), d_table(filter.rows * 3 * filter.W, T(0));
    std::vector<Edge<T>> edges;
    std::vector<Bends<T>> bends;
#pragma omp for schedule(static)
    for (int64_t node = 0; node < graph.B * graph.N; ++node) {
      edges.clear();
      sent(node, graph, geometry, filter, edges);
      bends.assign(edges.size(), Bends<T>{});
      for (int64_t f = 0; f < F; f += Lanes<T>::n)
        sender(node, f, F, filter, edges, phi, gates.data(), v, d_moved, d_h, d, d_gates.data(), d_table.data(),
               bends.data());
      for (std::size_t k = 0; d.distance && k < edges.size(); ++k) {
        d.distance[edges[k].slot] = sum<T>(bends[k].distance) / filter.step;
        for (int x = 0; x < 3; ++x) d.unit[edges[k].slot * 3 + x] = sum<T>(bends[k].unit[x]);
      }
    }
#pragma omp critical
    {
      add_gate_gradient(d_gates, 3 * F, scale, d.gate);
      add_all(d_table, d.table);
    }
  }
}

} // namespace
} // namespace definet

#define EXPORT(T, SUFFIX)                                                                                              \
  void messages_forward_##SUFFIX(const definet::Graph *graph, const T *distance, const T *unit, int64_t shared,        \
                                 const T *table, int64_t rows, double step, int64_t F, const T *phi, const T *gate,    \
                                 const T *v, T *moved, T *h) {                                                         \
    definet::forward<T>(*graph, {distance, unit, shared}, {table, rows, 3 * F, T(step)}, F, phi, gate, v, moved, h);   \
  }                                                                                                                    \
  void messages_backward_##SUFFIX(const definet::Graph *graph, const T *distance, const T *unit, int64_t shared,       \
                                  const T *table, int64_t rows, double step, int64_t F, const T *phi, const T *gate,   \
                                  const T *v, const T *d_moved, const T *d_h, T *d_phi, T *d_gate, T *d_v, T *d_table, \
                                  T *d_distance, T *d_unit) {                                                          \
    definet::backward<T>(*graph, {distance, unit, shared}, {table, rows, 3 * F, T(step)}, F, phi, gate, v, d_moved,    \
                         d_h, {d_phi, d_gate, d_v, d_table, d_distance, d_unit});                                      \
  }

extern "C" {
EXPORT(float, float32)
EXPORT(double, float64)
}
