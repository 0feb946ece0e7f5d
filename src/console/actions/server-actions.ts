/**
 * Actions on the server: end a client, set a parameter, change a user.
 *
 * Invariant: no password reaches a plan's text, an outcome or the audit, not in the server's errors either.
 */
import { RivuletError } from '../../errors.ts';
import { isSecretSetting } from '../sources/server-facts.ts';
import { commandsOf } from '../sources/stream-source.ts';
import { type ActionKind, allow, type Plan, textOption } from './plan.ts';

function plan(target: string, summary: string, run: () => Promise<null>): Plan {
  return {
    items: [target],
    first: [summary],
    target,
    summary,
    reversible: false,
    run,
  };
}

/** Rejects as the work does, without the secrets in the message: servers repeat what they refuse. */
async function hiding(secrets: readonly string[], work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const code = error instanceof RivuletError ? error.code : 'UNAVAILABLE';
    // The longest first: one may be a part of another.
    const known = secrets.filter(Boolean).sort((a, b) => b.length - a.length);
    const said = (error as Error).message;
    throw new RivuletError(
      code,
      known.reduce((text, secret) => text.replaceAll(secret, '(hidden)'), said),
    );
  }
}

export const serverActions: readonly ActionKind[] = [
  {
    verb: 'server.killClient',
    command: ['CLIENT', 'KILL', 'ID', '1'],
    needs: 'clients',
    byCommands: true,
    async plan({ viewer, target }) {
      const id = target.client ?? '';
      if (!/^\d{1,16}$/.test(id)) {
        throw new RivuletError('INVALID_ARGUMENT', 'the target names no client by its number');
      }
      allow(viewer, 'CLIENT', 'KILL', 'ID', id);
      return plan(id, `end the connection of client ${id}`, async () => {
        const ended = await commandsOf(viewer).call('CLIENT', 'KILL', 'ID', id);
        if (Number(ended) === 0) throw new RivuletError('NOT_FOUND', 'the client is gone');
        return null;
      });
    },
  },
  {
    verb: 'server.config',
    command: ['CONFIG', 'SET', 'x', 'y'],
    needs: 'server',
    byCommands: true,
    role: 'admin',
    async plan({ viewer, options }) {
      const name = textOption(options, 'name', 'the parameter');
      const value = String(options.value ?? '');
      allow(viewer, 'CONFIG', 'SET', name, value);
      const isSecret = isSecretSetting(name);
      return plan(name, `set ${name} to ${isSecret ? '(hidden)' : value}`, async () => {
        await hiding(isSecret ? [value] : [], () =>
          commandsOf(viewer).call('CONFIG', 'SET', name, value),
        );
        return null;
      });
    },
  },
  {
    verb: 'server.acl',
    command: ['ACL', 'SETUSER', 'x'],
    needs: 'server',
    byCommands: true,
    role: 'admin',
    async plan({ viewer, options }) {
      const user = textOption(options, 'user', 'the user');
      const rules = textOption(options, 'rules', 'rules of ACL SETUSER')
        .split(/\s+/)
        .filter(Boolean);
      allow(viewer, 'ACL', 'SETUSER', user, ...rules);
      const isSecret = (rule: string) => /^[><#!]/.test(rule);
      const shown = rules.map((rule) => (isSecret(rule) ? `${rule[0]}(hidden)` : rule));
      const secrets = rules.filter(isSecret).map((rule) => rule.slice(1));
      return plan(user, `change user ${user}: ${shown.join(' ')}`, async () => {
        await hiding(secrets, () => commandsOf(viewer).call('ACL', 'SETUSER', user, ...rules));
        return null;
      });
    },
  },
];
