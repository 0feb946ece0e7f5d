/**
 * Small WebAssembly modules out of opcodes, for loops over 64-bit numbers: JavaScript has no such
 * numbers but BigInt, which takes a hundred times as long.
 *
 * A module has one memory and functions that it exports by their names. Building and compiling one is
 * done at its first use and takes less than a millisecond.
 * Source: https://webassembly.github.io/spec/core/binary/index.html
 */

/** What this file uses of the standard's interface. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object) => { readonly exports: Record<string, unknown> };
};

export const I32 = 0x7f;
export const I64 = 0x7e;
export type NumberType = typeof I32 | typeof I64;

export interface WasmFunction {
  readonly name: string;
  readonly parameters: readonly NumberType[];
  readonly result: NumberType | null;
  /** Types of the variables, which are numbered after the parameters. */
  readonly locals: readonly NumberType[];
  readonly body: readonly number[];
}

/** An instruction by its name in the specification, and what follows its opcode. */
export const op = {
  get: (local: number) => [0x20, local],
  set: (local: number) => [0x21, local],
  i32: (value: number) => [0x41, ...signed(BigInt(value))],
  i64: (value: bigint) => [0x42, ...signed(BigInt.asIntN(64, value))],
  load64: (offset: number) => [0x29, 0, ...unsigned(offset)],
  load8: (offset: number) => [0x31, 0, ...unsigned(offset)],
  store64: (offset: number) => [0x37, 0, ...unsigned(offset)],
  add32: [0x6a],
  and32: [0x71],
  /** Of two unsigned numbers: whether the first is the greater one, or equal. */
  notBelow32: [0x4f],
  wrap: [0xa7],
  add64: [0x7c],
  mul64: [0x7e],
  and64: [0x83],
  xor64: [0x85],
  shiftLeft64: [0x86],
  shiftRight64: [0x88],
  /** Repeats `body` until `condition` leaves a number other than 0, which is looked at first. */
  until: (condition: readonly number[], body: readonly number[]) => [
    ...[0x02, 0x40, 0x03, 0x40],
    ...condition,
    ...[0x0d, 1],
    ...body,
    ...[0x0c, 0, 0x0b, 0x0b],
  ],
};

/** Compiles the functions; `pages` of 64 KiB are the memory. */
export function instantiate<Functions>(
  pages: number,
  functions: readonly WasmFunction[],
): Functions & { readonly memory: ArrayBuffer } {
  const types = functions.map(({ parameters, result }) => [
    0x60,
    ...vector(parameters.map((type) => [type])),
    ...vector(result === null ? [] : [[result]]),
  ]);
  const codes = functions.map(({ locals, body }) => {
    const code = [...vector(locals.map((type) => [1, type])), ...body, 0x0b];
    return [...unsigned(code.length), ...code];
  });
  const names = functions.map(({ name }, i) => [...text(name), 0, i]);
  const bytes = [
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, types),
    ...section(
      3,
      functions.map((_, i) => [i]),
    ),
    ...section(5, [[0, ...unsigned(pages)]]),
    ...section(7, [[...text('memory'), 2, 0], ...names]),
    ...section(10, codes),
  ];
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(bytes)));
  const { buffer } = exports.memory as { readonly buffer: ArrayBuffer };
  return { ...(exports as Functions), memory: buffer };
}

function section(id: number, items: readonly (readonly number[])[]): number[] {
  const content = vector(items);
  return [id, ...unsigned(content.length), ...content];
}

function vector(items: readonly (readonly number[])[]): number[] {
  return [...unsigned(items.length), ...items.flat()];
}

function text(value: string): number[] {
  return vector([...Buffer.from(value)].map((byte) => [byte]));
}

function unsigned(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 127; value >>>= 7) bytes.push((value & 127) | 128);
  return [...bytes, value];
}

function signed(value: bigint): number[] {
  const bytes: number[] = [];
  for (; value < -64n || value > 63n; value >>= 7n) bytes.push(Number(value & 127n) | 128);
  return [...bytes, Number(value & 127n)];
}
