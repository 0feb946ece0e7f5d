/**
 * What the server that Rivulet is compared with knows: its commands, and how new it is by them.
 *
 * A server built from source may say any version, so the version is told by the newest command it has.
 */
import { RespSession } from '../helpers/resp-session.ts';

/** Commands and the version that brought them, newest first. */
const BROUGHT: readonly (readonly [command: string, version: number])[] = [
  ['XNACK', 8.8],
  ['XCFGSET', 8.6],
  ['MSETEX', 8.4],
  ['XACKDEL', 8.2],
  ['HGETEX', 8.0],
  ['HEXPIRE', 7.4],
  ['WAITAOF', 7.2],
];
const OLDEST = 7.0;

export class Reference {
  readonly commands: ReadonlySet<string>;
  readonly version: number;

  constructor(commands: Iterable<string> = []) {
    this.commands = new Set(commands);
    this.version = BROUGHT.find(([command]) => this.commands.has(command))?.[1] ?? OLDEST;
  }

  has(command: string): boolean {
    return this.commands.has(command);
  }

  static async ask(port: number): Promise<Reference> {
    await using session = await RespSession.open(port);
    const list = await session.text('COMMAND', 'LIST');
    return new Reference(
      [...list.matchAll(/\r\n([^$*\r\n]+)/g)].map(([, name]) => name.toUpperCase()),
    );
  }
}
