/**
 * The routes of services: list, one service, call.
 *
 * A call changes what its service changes, so it needs the role `operate` and is in the audit; the built-in
 * Debug endpoints only tell, so `read` is enough and they are not.
 */
import type { Audit } from '../../broker/audit.ts';
import { RivuletError } from '../../errors.ts';
import { type ActionKind, allow } from '../actions/plan.ts';
import type { CallReply } from '../api-types.ts';
import type { Call, Router } from '../http/router.ts';
import type { Account } from '../http/users.ts';
import { callRequestOf, type Services } from '../services/services.ts';

export interface ServiceSetup {
  readonly services: Services | null;
  readonly audit: Audit;
  readonly isReadOnly: boolean;
}

export const QUIET: ReadonlySet<string> = new Set([
  'Debug.Health',
  'Debug.Stats',
  'Debug.Log',
  'Debug.Trace',
]);

export function serviceRoutes(router: Router, setup: ServiceSetup): void {
  const services = (call: Call): Services => servicesFor(setup.services, call);
  router.add('GET', 'services', (call) => services(call).list());
  router.add('GET', 'services/{name}', (call) => services(call).detail(call.params.name!));
  router.add('POST', 'call', (call) => callService(services(call), setup, call));
}

export function servicesFor(services: Services | null, { viewer }: Call): Services {
  if (services === null) throw new RivuletError('UNSUPPORTED', 'this console has no registry');
  if (viewer.seesAll) return services;
  throw new RivuletError(
    'PERMISSION_DENIED',
    'services are shown to users who may read every topic',
  );
}

async function callService(
  services: Services,
  { audit, isReadOnly }: ServiceSetup,
  { account, viewer, body }: Call,
): Promise<CallReply> {
  const request = callRequestOf(body);
  const { service, endpoint, node: address } = request;
  await mayCall({ services, account, isReadOnly, service, endpoint, address });
  if (QUIET.has(endpoint)) return services.call(request);
  const action = {
    user: viewer.user,
    address: viewer.address,
    verb: 'service.call',
    target: `${request.service} ${request.endpoint}`,
    count: 1,
    reason: '',
  };
  let reply: CallReply | null = null;
  await audit
    .record(action, async () => {
      reply = await services.call(request);
      if (reply.error !== null) throw new RivuletError('RESPONDER_FAILED', reply.error.message);
    })
    .catch((error: unknown) => {
      // The call's own failure is in its reply; one of the audit's is not.
      if (reply === null) throw error;
    });
  return reply as unknown as CallReply;
}

export interface WantedCall {
  readonly services: Services;
  readonly account: Account;
  readonly isReadOnly: boolean;
  readonly service: string;
  readonly endpoint: string;
  /** host:port that the caller names. */
  readonly address: string | undefined;
}

/**
 * Rejects with PERMISSION_DENIED. An address that is no node of the service would make this process
 * connect to whatever the caller names, so only admins name one.
 */
export async function mayCall(wanted: WantedCall): Promise<void> {
  const { services, account, isReadOnly, service, endpoint, address } = wanted;
  const { roles } = account;
  if (!QUIET.has(endpoint) && (isReadOnly || !roles.includes('operate'))) {
    throw new RivuletError('PERMISSION_DENIED', 'you may not call services');
  }
  if (address === undefined || (roles.includes('admin') && !isReadOnly)) return;
  const records = await services.records(service);
  if (records.some(({ nodes }) => nodes.some((node) => node.address === address))) return;
  const text = `only admins call an address that is no node of ${service}`;
  throw new RivuletError('PERMISSION_DENIED', text);
}

export function dropNode(services: Services): ActionKind {
  return {
    verb: 'service.dropNode',
    command: ['DEL', 'x'],
    needs: 'services',
    role: 'admin',
    async plan({ viewer, target }) {
      const { service = '', node = '' } = target;
      allow(viewer, 'DEL', 'x');
      if (!viewer.seesAll) {
        const text = 'nodes are removed by users who may read every topic';
        throw new RivuletError('PERMISSION_DENIED', text);
      }
      const records = await services.records(service);
      const found = records.flatMap(({ nodes }) => nodes).find(({ id }) => id === node);
      if (found === undefined) throw new RivuletError('NOT_FOUND', 'the registry has no such node');
      const summary = `remove ${node} at ${found.address} from the registry`;
      return {
        items: [node],
        first: [summary],
        target: `${service} ${node}`,
        summary,
        confirm: node,
        reversible: false,
        async run() {
          await services.dropNode(service, node);
          return null;
        },
      };
    },
  };
}
