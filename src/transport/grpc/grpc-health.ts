/**
 * grpc.health.v1.Health: what load balancers and Kubernetes ask.
 *
 * The empty name is the whole node; services are known by their full names and by the registry's.
 * Invariant: a service that is not here is NOT_FOUND for Check and SERVICE_UNKNOWN for Watch, as the
 * protocol demands. Cost: a Watch looks once a second, and only while there is one.
 */
import type { Scheduler } from '../../util/time/scheduler.ts';
import { type DescribedServices, type IncomingCall, NO_METADATA } from '../transport.ts';
import type { GrpcRoute } from './grpc-server.ts';
import { decodeFields, encodeFields } from './proto-fields.ts';

const SERVING = 1;
const NOT_SERVING = 2;
const SERVICE_UNKNOWN = 3;
const LOOK_EVERY_MS = 1000;
/** Health of more services is refused, as the protocol says. */
const MAX_LISTED = 100;

export function healthRoutes(
  described: DescribedServices,
  scheduler: Scheduler,
): Map<string, GrpcRoute> {
  const statusOf = (name: string): number | null => {
    const isKnown = name === '' || described.services.includes(name);
    return isKnown ? (described.isHealthy() ? SERVING : NOT_SERVING) : null;
  };
  const check = (call: IncomingCall) => {
    const name = nameIn(call.body);
    const status = statusOf(name);
    if (status === null) {
      call.fail({
        ...NOT_FOUND,
        detail: `there is no service ${JSON.stringify(name.slice(0, 200))}`,
      });
    } else answer(call, encodeFields([[1, status]]));
  };
  const list = (call: IncomingCall) => {
    const names = ['', ...described.services];
    if (names.length > MAX_LISTED) {
      call.fail({ ...TOO_MANY, detail: `there are more than ${MAX_LISTED} services` });
      return;
    }
    const entry = (name: string) =>
      encodeFields([
        [1, name],
        [2, encodeFields([[1, statusOf(name) ?? SERVICE_UNKNOWN]])],
      ]);
    answer(call, encodeFields(names.map((name) => [1, entry(name)])));
  };
  return new Map<string, GrpcRoute>([
    ['/grpc.health.v1.Health/Check', { method: UNARY, handler: check }],
    ['/grpc.health.v1.Health/List', { method: UNARY, handler: list }],
    [
      '/grpc.health.v1.Health/Watch',
      { method: SERVER_STREAM, handler: (call) => watch(call, statusOf, scheduler) },
    ],
  ]);
}

function watch(
  call: IncomingCall,
  statusOf: (name: string) => number | null,
  scheduler: Scheduler,
): void {
  const name = nameIn(call.body);
  let last = -1;
  let stop = () => {};
  const look = () => {
    const status = statusOf(name) ?? SERVICE_UNKNOWN;
    stop = scheduler.after(LOOK_EVERY_MS, look, false);
    if (status === last) return;
    last = status;
    // Only the last word matters to a watcher that does not read.
    call.send(encodeFields([[1, status]])).catch(() => stop());
  };
  look();
  call.onCancel(() => stop());
}

const UNARY = { kind: 'unary', isProto: true } as const;
const SERVER_STREAM = { kind: 'serverStream', isProto: true } as const;
const NOT_FOUND = { code: 'NOT_FOUND', id: 'grpc.health.v1', status: 404 } as const;
const TOO_MANY = { code: 'LIMIT_EXCEEDED', id: 'grpc.health.v1', status: 429 } as const;

function nameIn(body: Uint8Array | null): string {
  const fields = decodeFields(body ?? new Uint8Array(0));
  const name = fields?.find(([number]) => number === 1)?.[1];
  return typeof name === 'object' ? Buffer.from(name).toString('utf8') : '';
}

function answer(call: IncomingCall, body: Uint8Array): void {
  call.reply({ contentType: call.contentType, metadata: NO_METADATA, body });
}
