// The data file's texts become arrays.

"use strict";

const FULL = 32767;

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

// Positions in units of the half-width of the plane, from -1 to 1.
function positionsOf(text) {
  const bytes = bytesOf(text);
  const view = new DataView(bytes.buffer);
  const positions = new Float32Array(bytes.length / 2);
  for (let i = 0; i < positions.length; i++) positions[i] = view.getInt16(2 * i, true) / FULL;
  return positions;
}

// The values between two frames: time 3.25 is three quarters of frame 3 and one quarter of frame 4.
function between(positions, size, frames, time, into) {
  const first = Math.min(Math.floor(time), frames - 1);
  const second = Math.min(first + 1, frames - 1);
  const share = time - first;
  const a = first * size, b = second * size;
  for (let i = 0; i < size; i++) into[i] = positions[a + i] + share * (positions[b + i] - positions[a + i]);
  return into;
}

// The share of the points that are nearest to each centre.
function sharesOf(points, centres) {
  const counts = centres.map(() => 0);
  for (let i = 0; i < points.length; i += 2) {
    let nearest = 0, least = Infinity;
    for (let k = 0; k < centres.length; k++) {
      const dx = points[i] - centres[k][0], dy = points[i + 1] - centres[k][1];
      if (dx * dx + dy * dy < least) { least = dx * dx + dy * dy; nearest = k; }
    }
    counts[nearest] += 1;
  }
  return counts.map((count) => (2 * count) / points.length);
}
