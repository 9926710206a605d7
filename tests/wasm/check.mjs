// Compares what the library computes as WebAssembly with what this machine computes.
//
//     node check.mjs NATIVE WASI BARE MODEL PICTURE
//
// NATIVE and WASI are the program `edge-vit-embedded`, BARE is the library with its C interface. Each classifies
// PICTURE with MODEL; labels must be the same, scores within what the order of float32 sums makes of them.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { WASI } from 'node:wasi'

const TOLERANCE = 1e-4

const [native, wasiProgram, bareModule, model, picture] = process.argv.slice(2)

/** `0.123456 label` a line, as [label, score] pairs. */
const parse = (text) =>
  text
    .trim()
    .split('\n')
    .map((line) => [line.slice(line.indexOf(' ') + 1), Number.parseFloat(line)])

/** A WASI program sees the picture's folder, its model comes through the standard input. */
async function runWasi() {
  const folder = mkdtempSync(join(tmpdir(), 'edge-vit-wasm-'))
  try {
    const out = join(folder, 'out')
    const wasi = new WASI({
      version: 'preview1',
      args: ['edge-vit-embedded', `/pictures/${basename(picture)}`],
      preopens: { '/pictures': dirname(picture) },
      stdin: openSync(model, 'r'),
      stdout: openSync(out, 'w'),
    })
    const program = await WebAssembly.compile(readFileSync(wasiProgram))
    const instance = await WebAssembly.instantiate(program, wasi.getImportObject())
    assert.equal(wasi.start(instance), 0, 'the WASI program failed')
    return parse(readFileSync(out, 'utf8'))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** A bare module is given nothing at all: no import, no system. */
async function runBare() {
  const module = await WebAssembly.compile(readFileSync(bareModule))
  assert.deepEqual(WebAssembly.Module.imports(module), [], 'the bare module asks for something')
  const { exports: edgeVit } = await WebAssembly.instantiate(module, {})
  const { memory } = edgeVit
  // Pages that the host adds belong to the host: the library takes others for itself.
  const allocate = (length) => memory.grow(Math.ceil(length / 65536)) * 65536
  const place = (bytes) => {
    const address = allocate(bytes.length)
    new Uint8Array(memory.buffer).set(bytes, address)
    return address
  }
  const text = (address) => {
    const bytes = new Uint8Array(memory.buffer).subarray(address)
    return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)))
  }
  const done = (status) => assert.equal(status, 0, text(edgeVit.edge_vit_last_error()))

  const [modelBytes, pictureBytes] = [model, picture].map((path) => readFileSync(path))
  const handle = allocate(4)
  done(edgeVit.edge_vit_from_bytes(place(modelBytes), modelBytes.length, handle))
  const classifier = new DataView(memory.buffer).getUint32(handle, true)
  done(edgeVit.edge_vit_self_test(classifier, 0))
  const labels = edgeVit.edge_vit_labels(classifier)
  const scores = allocate(4 * labels)
  // Twice: the second time in the buffers of the first.
  for (let i = 0; i < 2; i++) {
    done(edgeVit.edge_vit_classify_encoded(classifier, place(pictureBytes), pictureBytes.length, scores, labels))
  }
  const values = new Float32Array(memory.buffer, scores, labels)
  const named = Array.from(values, (score, i) => [text(edgeVit.edge_vit_label(classifier, i)), score])
  edgeVit.edge_vit_free(classifier)
  return named.sort((a, b) => b[1] - a[1])
}

const expected = parse(execFileSync(native, [picture], { input: readFileSync(model), encoding: 'utf8' }))
assert.ok(expected.length > 1)
for (const [name, got] of [['wasm32-wasip1', await runWasi()], ['wasm32-unknown-unknown', await runBare()]]) {
  assert.equal(got.length, expected.length, name)
  got.forEach(([label, score], i) => {
    assert.equal(label, expected[i][0], name)
    assert.ok(Math.abs(score - expected[i][1]) < TOLERANCE, `${name}: ${label} ${score}, here ${expected[i][1]}`)
  })
  console.log(`${name}: ${got[0][0]} ${got[0][1].toFixed(6)}, as on this machine`)
}
