// One neighbour table shared by a batch, and the radial filters of its edges.
//
// Shapes: B structures, N sites, M slots per site, F features. table, reverse [N, M]; mask [N, M] or null; markers
// [B, N] in 0..3; distance [B, N, M] and unit [B, N, M, 3], without the batch axis where all start from one lattice.
#pragma once

#include "lanes.hpp"

namespace definet {

constexpr int kMarkers = 4; // of which a network without inserted atoms has three

struct Graph {
  int64_t B, N, M;
  const int32_t *table, *reverse;
  const uint8_t *mask;
  const int32_t *markers;
};

// Rows of a filter's table: for each its values, first and second derivatives (by rows), [rows, 3, W], W features.
template <class T> struct Filter {
  const T *table;
  int64_t rows, W;
  T step; // Å between rows
};

// Current geometry; `shared` is 1 where the arrays have no batch axis.
template <class T> struct Geometry {
  const T *distance, *unit;
  int64_t shared;
};

// Where a distance lies between two rows, and the quintic Hermite weights (or their slopes, by rows) of value, first and
// second derivative of the row below, then of the row above.
template <class T> struct Place {
  int64_t row;
  T weight[6], slope[6];

  Place() = default;
  Place(T distance, const Filter<T> &filter) {
    const T s = distance / filter.step;
    row = std::min(std::max(int64_t(s), int64_t(0)), filter.rows - 2);
    const T t = s - T(row), t2 = t * t, t3 = t2 * t, t4 = t2 * t2, t5 = t4 * t;
    const T w[6] = {1 - 10 * t3 + 15 * t4 - 6 * t5,       t - 6 * t3 + 8 * t4 - 3 * t5,
                    T(0.5) * (t2 - 3 * t3 + 3 * t4 - t5), 10 * t3 - 15 * t4 + 6 * t5,
                    -4 * t3 + 7 * t4 - 3 * t5,            T(0.5) * (t3 - 2 * t4 + t5)};
    const T d[6] = {-30 * t2 + 60 * t3 - 30 * t4,                 1 - 18 * t2 + 32 * t3 - 15 * t4,
                    T(0.5) * (2 * t - 9 * t2 + 12 * t3 - 5 * t4), 30 * t2 - 60 * t3 + 30 * t4,
                    -12 * t2 + 28 * t3 - 15 * t4,                 T(0.5) * (3 * t2 - 8 * t3 + 5 * t4)};
    std::copy(w, w + 6, weight);
    std::copy(d, d + 6, slope);
  }
};

// An edge as one of its nodes sees it.
template <class T> struct Edge {
  int64_t other; // node at its other end, into [B * N]
  int64_t slot;  // where it stands in the receiver's row, into [B * N * M]
  int64_t pair;  // of markers, sender * 4 + receiver
  T distance;    // Å
  Place<T> place;
  T unit[3]; // from sender to receiver
};

template <class T> Edge<T> edge_at(int64_t other, int64_t pair, int64_t b, int64_t slot, const Graph &graph,
                                   const Geometry<T> &geometry, const Filter<T> &filter) {
  const int64_t whole = b * graph.N * graph.M + slot, at = geometry.shared ? slot : whole;
  const T *unit = geometry.unit + 3 * at, distance = geometry.distance[at];
  return {other, whole, pair, distance, Place<T>(distance, filter), {unit[0], unit[1], unit[2]}};
}

// Append the edges that a node receives.
template <class T>
void received(int64_t node, const Graph &graph, const Geometry<T> &geometry, const Filter<T> &filter,
              std::vector<Edge<T>> &out) {
  const int64_t b = node / graph.N, i = node % graph.N;
  for (int64_t slot = i * graph.M; slot < (i + 1) * graph.M; ++slot) {
    if (graph.mask && !graph.mask[slot]) continue;
    const int64_t j = b * graph.N + graph.table[slot];
    out.push_back(edge_at(j, graph.markers[j] * kMarkers + graph.markers[node], b, slot, graph, geometry, filter));
  }
}

// Append the edges that a node sends: the reversed edge of each edge is in the table, so nothing is written twice.
template <class T>
void sent(int64_t node, const Graph &graph, const Geometry<T> &geometry, const Filter<T> &filter,
          std::vector<Edge<T>> &out) {
  const int64_t b = node / graph.N, j = node % graph.N;
  for (int64_t own = j * graph.M; own < (j + 1) * graph.M; ++own) {
    const int64_t slot = graph.reverse[own], i = b * graph.N + slot / graph.M;
    if (graph.mask && !graph.mask[slot]) continue;
    out.push_back(edge_at(i, graph.markers[node] * kMarkers + graph.markers[i], b, slot, graph, geometry, filter));
  }
}

// gates[a * 4 + b] = scale (gate[a] + gate[b]): what (g_j + g_i) can be
template <class T> std::vector<T> pair_gates(const T *gate, int64_t width, T scale) {
  std::vector<T> out(kMarkers * kMarkers * width);
  for (int a = 0; a < kMarkers; ++a)
    for (int b = 0; b < kMarkers; ++b)
      for (int64_t f = 0; f < width; ++f)
        out[(a * kMarkers + b) * width + f] = scale * (gate[a * width + f] + gate[b * width + f]);
  return out;
}

// d(gate) from d(gates), both nodes of an edge taking the same share
template <class T> void add_gate_gradient(const std::vector<T> &pairs, int64_t width, T scale, T *d_gate) {
  for (int a = 0; a < kMarkers; ++a)
    for (int b = 0; b < kMarkers; ++b)
      for (int64_t f = 0; f < width; ++f) {
        const T value = scale * pairs[(a * kMarkers + b) * width + f];
        d_gate[a * width + f] += value;
        d_gate[b * width + f] += value;
      }
}

template <class T> void add_all(const std::vector<T> &from, T *to) {
  for (std::size_t k = 0; k < from.size(); ++k) to[k] += from[k];
}

// Interpolate the filters of one edge, lanes from f on; `weights` are a place's weights or slopes.
template <class T> inline Vec<T> interpolate(const Filter<T> &filter, int64_t row, const T *weights, int64_t f) {
  const T *r = filter.table + row * 3 * filter.W + f;
  Vec<T> out = weights[0] * load(r);
#pragma GCC unroll 5
  for (int k = 1; k < 6; ++k) out += weights[k] * load(r + k * filter.W);
  return out;
}

// Add what an edge's filters, lanes from f on, say about the table; d_table has the table's shape.
template <class T>
inline void add_table_gradient(const Filter<T> &filter, int64_t row, const T *weights, int64_t f, Vec<T> d, T *d_table) {
  T *r = d_table + row * 3 * filter.W + f;
#pragma GCC unroll 6
  for (int k = 0; k < 6; ++k) add_to(r + k * filter.W, weights[k] * d);
}

} // namespace definet
