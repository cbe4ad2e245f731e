// A layered layout: columns by the longest way from the start, rows so that lines cross little and stay short.

export const WIDTH = 208;
export const HEIGHT = 52;
const GAP_X = 64;
const GAP_Y = 18;
const PAD = 40;
const HEAD = 44;
const LARGEST_SORTED = 60000;
const SWEEPS = 4;

/** Give every node x, y, width and height; returns the size of the whole. */
export function layout(nodes, links) {
  for (const node of nodes) Object.assign(node, sizeOf(node), { into: [], out: [] });
  for (const link of links) {
    link.from.out.push(link.to);
    link.to.into.push(link.from);
  }
  const layers = layersOf(nodes);
  if (links.length < LARGEST_SORTED) order(layers);
  place(layers);
  return placed(nodes, layers);
}

/** The cells of a fold: many stages alike as a field, each a cell. */
export function cellsOf(number) {
  const cell = number <= 60 ? 16 : number <= 240 ? 11 : number <= 1500 ? 7 : 4;
  const columns = Math.max(Math.ceil((WIDTH - 20) / cell), Math.ceil(Math.sqrt(number)));
  return { cell, columns, lines: Math.ceil(number / columns) };
}

function sizeOf(node) {
  if (!node.isFold) return { width: WIDTH, height: HEIGHT };
  const { cell, columns, lines } = cellsOf(node.refs.length);
  return { width: Math.max(WIDTH, columns * cell + 20), height: HEAD + lines * cell + 12 };
}

function layersOf(nodes) {
  const left = new Map(nodes.map((node) => [node, node.into.length]));
  const ready = nodes.filter((node) => node.into.length === 0);
  for (const node of nodes) node.layer = 0;
  for (let at = 0; at < ready.length; at += 1) {
    for (const next of ready[at].out) {
      next.layer = Math.max(next.layer, ready[at].layer + 1);
      left.set(next, left.get(next) - 1);
      if (left.get(next) === 0) ready.push(next);
    }
  }
  const layers = [];
  for (const node of nodes) (layers[node.layer] ??= []).push(node);
  return layers.filter(Boolean);
}

const mean = (values) => values.reduce((sum, one) => sum + one, 0) / values.length;

/** Sort each column by the middle of its neighbours, to and fro. */
function order(layers) {
  const number = (layer) => layer.forEach((node, row) => (node.row = row / layer.length));
  layers.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const isForth = sweep % 2 === 0;
    for (const layer of isForth ? layers : [...layers].reverse()) {
      for (const node of layer) {
        const beside = isForth ? node.into : node.out;
        node.wish = beside.length ? mean(beside.map((one) => one.row)) : node.row;
      }
      layer.sort((one, other) => one.wish - other.wish);
      number(layer);
    }
  }
}

/** Put each node as near to the middle of its neighbours as those beside it allow. */
function place(layers) {
  for (const layer of layers) stack(layer, () => 0);
  const middle = (node) => node.y + node.height / 2;
  const wish = (beside) => (node) => (beside(node).length ? mean(beside(node).map(middle)) : middle(node));
  for (let sweep = 0; sweep < 3; sweep += 1) {
    for (const layer of layers) stack(layer, wish((node) => node.into));
    for (const layer of [...layers].reverse()) stack(layer, wish((node) => node.out));
  }
  for (const layer of layers) stack(layer, wish((node) => node.into));
}

function stack(layer, wishOf) {
  const wishes = layer.map((node) => wishOf(node) - node.height / 2);
  let bottom = -Infinity;
  layer.forEach((node, at) => {
    node.y = Math.max(wishes[at], bottom);
    bottom = node.y + node.height + GAP_Y;
  });
  // What was pushed down together goes back up as far as all of it is off.
  const off = mean(layer.map((node, at) => node.y - wishes[at]));
  for (const node of layer) node.y -= off;
}

function placed(nodes, layers) {
  let x = PAD;
  const columns = [];
  for (const layer of layers) {
    const width = Math.max(...[0].concat(layer.length < 1000 ? layer.map((node) => node.width) : [WIDTH]));
    for (const node of layer) node.x = x + (width - node.width) / 2;
    columns.push({ left: x, right: x + width, nodes: [...layer].sort((one, other) => one.y - other.y) });
    x += width + GAP_X;
  }
  let [top, bottom] = [Infinity, -Infinity];
  for (const node of nodes) {
    top = Math.min(top, node.y);
    bottom = Math.max(bottom, node.y + node.height);
  }
  for (const node of nodes) node.y += PAD - top;
  return { width: x - GAP_X + PAD, height: nodes.length ? bottom - top + 2 * PAD : 0, columns };
}
