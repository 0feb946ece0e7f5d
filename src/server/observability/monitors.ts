/**
 * Connections in MONITOR mode, and the line that each of them gets for each command that was run.
 *
 *   +1339518083.107412 [0 127.0.0.1:60866] "keys" "*"
 *
 * Source: Redis 7.0's replicationFeedMonitors. Commands of administrators are not shown, passwords
 * neither. Lines go into the reply buffer as messages of a channel do, so what bounds a subscriber
 * that does not read bounds a monitor, and a line waits for the disk as the reply to its command does.
 * Cost: nothing while no client monitors: the dispatch loop's one compare of times leads here
 * (ServerState.noticeMs). Otherwise one text per command and one copy per monitor.
 */
import type { Arguments } from '../../util/arguments.ts';
import { type CommandEntry, FLAG } from '../command/command-table.ts';
import { shownArguments } from '../command/secret-arguments.ts';
import type { ClientView } from '../connection/client-view.ts';
import type { PushTarget } from '../output/push-target.ts';
import type { ReplyPath } from '../output/reply-path.ts';

const NOT_SHOWN = FLAG.admin | FLAG.skip_monitor;

/** A client in MONITOR mode. */
export interface Monitor extends PushTarget {
  readonly replies: Pick<ReplyPath, 'silent'>;
}

export class Monitors {
  readonly #monitors = new Set<Monitor>();
  readonly #changed: () => void;

  constructor(changed: () => void) {
    this.#changed = changed;
  }

  get any(): boolean {
    return this.#monitors.size > 0;
  }

  has(monitor: Monitor): boolean {
    return this.#monitors.has(monitor);
  }

  add(monitor: Monitor): void {
    this.#monitors.add(monitor);
    this.#changed();
  }

  delete(monitor: Monitor): void {
    if (this.#monitors.delete(monitor)) this.#changed();
  }

  /** The command was run. */
  feed(client: ClientView, entry: CommandEntry, args: Arguments): void {
    if ((entry.flags & NOT_SHOWN) !== 0) return;
    const { now } = client.engine;
    const time = `${Math.floor(now / 1000)}.${String((now % 1000) * 1000).padStart(6, '0')}`;
    let line = `${time} [${client.database.index} ${client.address}]`;
    for (const argument of shownArguments(entry, args)) line += ` ${quoted(argument)}`;
    for (const monitor of this.#monitors) {
      if (monitor.replies.silent) continue;
      monitor.pushes.simple(line);
      monitor.written();
    }
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\\': '\\\\',
  '"': '\\"',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\x07': '\\a',
  '\b': '\\b',
};

/** As sdscatrepr: printable ASCII as it is, the rest escaped. */
function quoted(bytes: Buffer): string {
  const text = bytes
    .toString('latin1')
    .replace(/[^ !#-[\]-~]/g, (one) => ESCAPES[one] ?? `\\x${hex(one.charCodeAt(0))}`);
  return `"${text}"`;
}

function hex(code: number): string {
  return code.toString(16).padStart(2, '0');
}
