/**
 * The terminal as an input: lines of standard input are commands, answers go to standard output.
 *
 * Invariants: the person at the terminal is an operator; answers of services cannot move the cursor; a
 * line of more than MAX_LINE bytes ends the input with an error; the end of standard input ends it too, once its lines are
 * answered; it is not read while AT_ONCE lines are without an answer, so that none of a pipe is refused. Cost:
 * the lines of one piece of the input.
 */
import { userInfo } from 'node:os';
import { createInterface } from 'node:readline';
import { printableLines } from '../../util/printable.ts';
import {
  type IncomingText,
  type Input,
  InputRefused,
  type OpenInput,
  type Sender,
} from './input.ts';

const MAX_LINE = 1024 * 1024;
const AT_ONCE = 2;

export interface TerminalStreams {
  readonly input: NodeJS.ReadableStream;
  readonly output: NodeJS.WritableStream;
}

export class TerminalInput implements Input {
  readonly name = 'terminal';
  readonly pieceSize = Number.MAX_SAFE_INTEGER;
  readonly #streams: TerminalStreams;

  constructor(streams: TerminalStreams = { input: process.stdin, output: process.stdout }) {
    this.#streams = streams;
  }

  async open(receive: (message: IncomingText) => Promise<void>): Promise<OpenInput> {
    const { input, output } = this.#streams;
    let length = 0;
    let reason: InputRefused | null = null;
    const measure = (chunk: Buffer | string) => {
      const end = chunk.lastIndexOf('\n');
      length = end < 0 ? length + chunk.length : chunk.length - end - 1;
      if (length <= MAX_LINE) return;
      reason = new InputRefused(
        `a line of the terminal has at most ${MAX_LINE} bytes: no more of it is read`,
      );
      lines.close();
    };
    // Before readline's own listener, which keeps a line until its end.
    input.on('data', measure);
    const lines = createInterface({ input });
    const sender: Sender = { input: 'terminal', names: [localUser()], isLocal: true };
    const write = (text: string) =>
      new Promise<void>((resolve) => output.write(text, () => resolve()));
    const waiting: string[] = [];
    let running = 0;
    let isOver = false;
    let end: (reason: InputRefused | null) => void = () => {};
    const closed = new Promise<InputRefused | null>((resolve) => {
      end = resolve;
    });
    const reply = (answer: string) => write(`${printableLines(answer)}\n`);
    const next = () => {
      for (; running < AT_ONCE && waiting.length > 0; running++) {
        const text = waiting.shift() as string;
        void receive({ text, sender, place: '', sentAt: null, reply }).then(() => {
          running--;
          next();
        });
      }
      if (isOver) {
        if (running === 0) end(reason);
      } else if (waiting.length > 0) lines.pause();
      else lines.resume();
    };
    lines.on('line', (text) => {
      waiting.push(text);
      next();
    });
    lines.once('close', () => {
      input.off('data', measure);
      isOver = true;
      next();
    });
    return {
      closed,
      async close() {
        waiting.length = 0;
        lines.close();
        // What runs ends with the bot.
        end(null);
      },
    };
  }
}

/** A user without a name in the system has a number. */
function localUser(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? '');
  }
}
