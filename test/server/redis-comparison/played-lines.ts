/**
 * Lines of commands played to a server, and what it said: for comparing two servers line by line.
 *
 *   0:SET a 'x y'       on connection 0; words in quotes may hold spaces
 *   1~XREAD BLOCK 0 ..  on connection 1, which blocks: the next line waits until the server says so
 *   1:<                 the reply to the line that blocked
 *
 * A connection that the server ends says `closed`, and is made anew by its next line.
 */
import { RespSession } from '../../helpers/resp-session.ts';
import { until } from '../../helpers/until.ts';

export async function play(port: number, protocol: 2 | 3, lines: string): Promise<string[]> {
  const connections = new Map<string, RespSession>();
  const blocked = new Map<string, Promise<string>>();
  await using control = await RespSession.open(port);
  const told: string[] = [];
  for (const line of lines.trim().split('\n')) {
    const [, name, kind, command] = /^(\d+)([:~])(.*)$/.exec(line) as unknown as string[];
    const session = connections.get(name) ?? (await RespSession.open(port, { protocol }));
    connections.set(name, session);
    const words = [...command.matchAll(/'([^']*)'|(\S+)/g)].map(
      ([, quoted, word]) => quoted ?? word,
    );
    const answer = async (): Promise<string> => {
      try {
        // In RESP3 the answer is a push, unless the command is refused or queued in MULTI.
        const reply = await (/^P?SUBSCRIBE /.test(command)
          ? session.callOrPush(...words)
          : session.call(...words));
        return reply.toString('latin1');
      } catch (error) {
        if (!/closed/.test(String(error))) throw error;
        connections.delete(name);
        return 'closed';
      }
    };
    if (kind === '~') {
      const waiting = blocked.size + 1;
      const reply = answer();
      blocked.set(name, reply);
      let isOver = false;
      const over = () => {
        isOver = true;
      };
      reply.then(over, over);
      // One that does not block is over instead: the comparison will say so.
      await until(async () => isOver || (await blockedClients(control)) === waiting);
      told.push(line);
    } else if (command === '<') {
      told.push(`${line} -> ${await blocked.get(name)}`);
      blocked.delete(name);
    } else {
      told.push(`${line} -> ${await answer()}`);
    }
  }
  for (const session of connections.values()) await session.close();
  return told;
}

async function blockedClients(control: RespSession): Promise<number> {
  return Number(/blocked_clients:(\d+)/.exec(await control.text('INFO', 'clients'))?.[1]);
}
