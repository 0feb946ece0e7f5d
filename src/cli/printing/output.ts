/**
 * What commands print: tables and lines for people, JSON for programs.
 *
 * Invariants: results go to standard output and everything else to standard error; with `--json`
 * standard output holds JSON only, a list as one array, a stream as one object a line; a reader that
 * goes away (`| head`) ends the command without an error, and a server not at all; what a message, a
 * name or an error of another program holds cannot move the terminal's cursor, except where `--raw` and
 * `--output raw` ask for its bytes. Cost: a write waits for its reader, so that nothing gathers in memory.
 */
import { printable, printableJson } from '../../util/printable.ts';

export { printable, printableLines } from '../../util/printable.ts';

export type Cell = string | number | bigint | boolean | null | undefined;

export interface Column<Row> {
  readonly title: string;
  readonly of: (row: Row) => Cell;
  /** Numbers are aligned at the right. */
  readonly right?: boolean;
}

export class Output {
  readonly json: boolean;
  /** Whether a person sees the result as it is written. */
  readonly isTerminal: boolean;
  readonly #out: NodeJS.WriteStream;
  readonly #err: NodeJS.WriteStream;

  constructor(json: boolean, out = process.stdout, err = process.stderr) {
    this.json = json;
    this.isTerminal = out.isTTY === true;
    this.#out = out;
    this.#err = err;
  }

  /** Rows as an aligned table, or as one JSON array of the rows themselves. */
  async rows<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): Promise<void> {
    if (this.json) return this.value(rows);
    if (rows.length > 0) await this.line(table(rows, columns));
  }

  /** One value as JSON, indented on a terminal. */
  value(value: unknown): Promise<void> {
    const indent = this.isTerminal ? 2 : undefined;
    return this.line(printableJson(JSON.stringify(value, plain, indent) ?? 'null'));
  }

  /** One object of a stream: a line of JSON. */
  item(value: unknown): Promise<void> {
    return this.line(printableJson(JSON.stringify(value, plain)));
  }

  /** A name of another program's making, on a line. */
  name(text: string): Promise<void> {
    return this.line(printable(text));
  }

  /** Facts of one thing: `name  value` lines, or the object. */
  async facts(facts: Readonly<Record<string, unknown>>): Promise<void> {
    if (this.json) return this.value(facts);
    const width = Math.max(...Object.keys(facts).map((name) => name.length));
    const lines = Object.entries(facts)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name.padEnd(width)}  ${shown(value as Cell)}`);
    await this.line(lines.join('\n'));
  }

  line(text: string): Promise<void> {
    return this.write(`${text}\n`);
  }

  /** Resolves when the reader can take more. */
  write(bytes: string | Uint8Array): Promise<void> {
    if (this.#out.write(bytes)) return Promise.resolve();
    return new Promise((resolve) => {
      this.#out.once('drain', resolve);
    });
  }

  /** For people, beside the result: on standard error. */
  note(text: string): void {
    this.#err.write(`${printable(text)}\n`);
  }
}

/**
 * A pipe whose reader has gone ends the process: quietly, as `cat | head` does. A command that serves
 * others goes on without its reader; `orderly` lets a command end its own processes first.
 */
export function endWithReader(what: 'end' | 'orderly' | 'serve'): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE' && error.code !== 'ERR_STREAM_DESTROYED') throw error;
      if (what === 'end') process.exit(0);
      if (what === 'orderly') process.kill(process.pid, 'SIGTERM');
    });
  }
}

function table<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const cells = rows.map((row) => columns.map(({ of }) => shown(of(row))));
  const titles = columns.map(({ title }) => title.toUpperCase());
  const widths = titles.map((title, i) =>
    cells.reduce((most, row) => Math.max(most, row[i]!.length), title.length),
  );
  return [titles, ...cells]
    .map((row) =>
      row
        .map((cell, i) => (columns[i]!.right ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function shown(cell: Cell): string {
  return cell === null || cell === undefined ? '-' : printable(String(cell));
}

/** JSON knows no 64 bit numbers; as text no digit is lost. */
function plain(_name: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
