// The random numbers of descend.rng: Philox's rounds are translated from there, the digest that keys them is BLAKE2b (RFC 7693).

const MASK = (1n << 64n) - 1n;
const BLAKE = [0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n, 0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n];
const SIGMA = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3], [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
  [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8], [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13], [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11], [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10], [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
  [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

// The digest of bytes, of size bytes, without a key.
function blake2b(bytes, size) {
  const h = [...BLAKE];
  h[0] ^= BigInt(0x01010000 ^ size);
  const n = Math.max(1, Math.ceil(bytes.length / 128)), padded = new Uint8Array(128 * n);
  padded.set(bytes);
  const words = new BigUint64Array(padded.buffer); // browsers and Node run on little-endian machines
  const turn = (x, k) => ((x >> k) | (x << (64n - k))) & MASK;
  for (let block = 0; block < n; block++) {
    const last = block === n - 1, m = words.subarray(16 * block), v = [...h, ...BLAKE];
    v[12] ^= BigInt(last ? bytes.length : 128 * (block + 1));
    if (last) v[14] ^= MASK;
    const mix = (a, b, c, d, x, y) => {
      v[a] = (v[a] + v[b] + x) & MASK; v[d] = turn(v[d] ^ v[a], 32n);
      v[c] = (v[c] + v[d]) & MASK; v[b] = turn(v[b] ^ v[c], 24n);
      v[a] = (v[a] + v[b] + y) & MASK; v[d] = turn(v[d] ^ v[a], 16n);
      v[c] = (v[c] + v[d]) & MASK; v[b] = turn(v[b] ^ v[c], 63n);
    };
    for (let round = 0; round < 12; round++) {
      const s = SIGMA[round % 10];
      for (let i = 0; i < 4; i++) mix(i, 4 + i, 8 + i, 12 + i, m[s[2 * i]], m[s[2 * i + 1]]);
      for (let i = 0; i < 4; i++) mix(i, 4 + ((i + 1) % 4), 8 + ((i + 2) % 4), 12 + ((i + 3) % 4), m[s[8 + 2 * i]], m[s[9 + 2 * i]]);
    }
    for (let i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
  }
  return new Uint8Array(BigUint64Array.from(h).buffer).slice(0, size);
}

const rng = {
  // The two words that key a stream in one epoch and draw.
  key(seed, stream, epoch = 0, draw = 0) {
    const digest = new DataView(blake2b(new TextEncoder().encode([seed, stream, epoch, draw].join("\x1f")), 8).buffer);
    return [digest.getUint32(0, true), digest.getUint32(4, true)];
  },
  // n words of the sample id under a key.
  words(key, id, n) {
    const [k0, k1] = key.map(BigInt), whole = BigInt.asUintN(64, BigInt(id)), low = whole & 0xffffffffn, high = whole >> 32n, out = new Uint32Array(n);
    for (let j = 0; j < n; j += 4) philoxRounds(BigInt(j / 4), 0n, low, high, k0, k1).forEach((word, i) => { if (j + i < n) out[j + i] = Number(word); });
    return out;
  },
  bits: (seed, stream, id, n, epoch = 0, draw = 0) => rng.words(rng.key(seed, stream, epoch, draw), id, n),
  // Which of n units are kept where each is dropped with probability p: as descend.rng.bernoulli has it, digit by digit.
  kept(key, id, n, p) {
    const edge = Math.round(p * 2 ** 32);
    let digits = 32;
    while (digits && edge % 2 ** (33 - digits) === 0) digits--;
    const words = rng.words(key, id, 4 * digits * Math.ceil(n / 128));
    return Array.from({ length: n }, (_, j) => {
      const first = 4 * digits * Math.floor(j / 128) + Math.floor(j / 32) % 4;
      let number = 0;
      for (let k = 0; k < digits; k++) number += (words[first + 4 * k] >>> j % 32 & 1) * 2 ** (31 - k);
      return number >= edge;
    });
  },
};

// The stream of one transform, as descend.augment.random_stream has it.
class RandomStream {
  constructor(seed, name, ids, draw, epoch = 0) { Object.assign(this, { seed, name, ids, draw, epoch }); }
  uniform(n = 1) {
    const key = rng.key(this.seed, `augment.${this.name}`, this.epoch, this.draw);
    return np.stack([...this.ids].map((id) => nd(Array.from(rng.words(key, id, n), (word) => (word + 0.5) * 2 ** -32))), 1);
  }
  branch(name) { return new RandomStream(this.seed, `${this.name}/${name}`, this.ids, this.draw, this.epoch); }
  coin(p) { return np.less(np.get(this.branch("p").uniform(), [0]), p); }
  key() { return rng.key(this.seed, `augment.${this.name}/pixels`, this.epoch, this.draw); }
}
