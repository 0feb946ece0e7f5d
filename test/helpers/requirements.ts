/**
 * What a test needs from the machine beyond Node, and the reason for its skip where that is missing.
 *
 * Under CI=true nothing may be skipped: a missing program is an error there.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Debian's own python: python3-redis is installed for that one. */
export const PYTHON = '/usr/bin/python3';

/** Debian's package brings jars; the service that it may start is never spoken to. */
const ZOOKEEPER_JAR = '/usr/share/java/zookeeper.jar';

/** Debian's libgrpc-java, and libperfmark-java, which it needs and does not name. */
const GRPC_JAVA_JARS = ['/usr/share/java/grpc-netty.jar', '/usr/share/java/perfmark-api.jar'];

export type Requirement =
  | 'gcc'
  | 'redis-server'
  | 'redis-cli'
  | 'redis-benchmark'
  | 'redis-py'
  | 'grpcio'
  | 'python3'
  | 'rabbitmq-server'
  | 'nats-server'
  | 'etcd'
  | 'java'
  | 'javac'
  | 'grpc-java'
  | 'zookeeper';

/** For `test(name, { skip: missing('redis-server') }, ...)`: false, or why the test is skipped. */
export function missing(...requirements: Requirement[]): string | false {
  const absent = requirements.filter((requirement) => !isThere(requirement));
  if (absent.length === 0) return false;
  const reason = `needs ${absent.join(', ')}, which this machine does not have`;
  if (process.env.CI === 'true') throw new Error(`${reason}; CI=true allows no skips`);
  return reason;
}

/** What of Python's modules a requirement is. */
const PYTHON_MODULES: ReadonlyMap<Requirement, string> = new Map([
  ['redis-py', 'redis'],
  ['grpcio', 'grpc, google.protobuf'],
  ['python3', 'http.client'],
]);

function isThere(requirement: Requirement): boolean {
  if (requirement === 'grpc-java') {
    return GRPC_JAVA_JARS.every((jar) => existsSync(jar)) && isThere('javac');
  }
  if (requirement === 'zookeeper') return existsSync(ZOOKEEPER_JAR) && isThere('java');
  const module = PYTHON_MODULES.get(requirement);
  if (module !== undefined) {
    return spawnSync(PYTHON, ['-c', `import ${module}`], { stdio: 'ignore' }).status === 0;
  }
  // Debian keeps servers where the PATH of an ordinary user does not look.
  const paths = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/lib/rabbitmq/bin'];
  return paths.some((path) => existsSync(join(path, requirement)));
}
