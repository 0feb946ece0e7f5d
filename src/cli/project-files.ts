/** The files of a new project, as `micro new` writes them. A test compiles and runs them. */

export interface ProjectNames {
  /** `order-desk` */
  readonly name: string;
  /** `go.micro.api` */
  readonly namespace: string;
  /** What package.json depends on. */
  readonly rivulet: string;
}

export function projectFiles(names: ProjectNames): Record<string, string> {
  const { name, rivulet } = names;
  const service = `${names.namespace}.${name.replaceAll('-', '')}`;
  const struct = name
    .split('-')
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join('');
  const topic = `${name.replaceAll('-', '')}.greeted`;
  return {
    'package.json': `${JSON.stringify(
      {
        name,
        version: '0.1.0',
        private: true,
        type: 'module',
        engines: { node: '>=20.19' },
        scripts: {
          build: 'tsc',
          // Node 20 reads no patterns, Node 22 no directories.
          test: 'tsc && cd dist && node --test',
          start: 'node dist/src/service.js',
          worker: 'node dist/src/worker.js',
          dev: 'tsc && micro run dist/src/service.js dist/src/worker.js',
        },
        dependencies: { rivulet },
        devDependencies: { '@types/node': '^20.19.0', typescript: '>=5.8' },
      },
      null,
      2,
    )}\n`,
    'tsconfig.json': `${JSON.stringify(
      {
        compilerOptions: {
          target: 'ES2023',
          module: 'NodeNext',
          types: ['node'],
          rootDir: '.',
          outDir: 'dist',
          strict: true,
          skipLibCheck: true,
        },
        include: ['src', 'test'],
      },
      null,
      2,
    )}\n`,
    '.gitignore': 'node_modules/\ndist/\ndata/\n',
    'src/contract.ts': `/** What ${name} offers: its name, its methods, and the topic that it publishes to. */
import { contract, topic, unary } from 'rivulet';

export const ${struct} = contract('${service}', {
  ${struct}: {
    Hello: unary<{ name: string }, { message: string }>(),
  },
});

export interface Greeted {
  readonly name: string;
}

export const greeted = topic<Greeted>('${topic}');
`,
    'src/handlers.ts': `/** What the methods do. */
import type { Broker, HandlersOf } from 'rivulet';
import { greeted, type ${struct} } from './contract.js';

export function handlers(broker: () => Promise<Broker>): HandlersOf<typeof ${struct}> {
  return {
    ${struct}: {
      async Hello({ name }) {
        await greeted.publish(await broker(), { name });
        return { message: \`Hello \${name}\` };
      },
    },
  };
}
`,
    'src/service.ts': `/** The service: node dist/src/service.js. MICRO_BROKER and MICRO_REGISTRY say where it belongs. */
import { createService } from 'rivulet';
import { ${struct} } from './contract.js';
import { handlers } from './handlers.js';

const { MICRO_BROKER: broker = 'rivulet://127.0.0.1:7488' } = process.env;

const service = createService({ broker });
service.handle(${struct}, handlers(() => service.broker()));
console.log('${service} starts');
await service.run();
`,
    'src/worker.ts': `/** The worker: handles each greeting once, in a consumer group: node dist/src/worker.js. */
import { createService } from 'rivulet';
import { greeted } from './contract.js';

const { MICRO_BROKER: broker = 'rivulet://127.0.0.1:7488' } = process.env;

const worker = createService({ name: '${service}.worker', broker });
worker.subscribe(greeted, ({ name }) => console.log(\`greeted \${name}\`), { queue: '${name}' });
console.log('${service}.worker starts');
await worker.run();
`,
    'test/service.test.ts': `/** The service and its events, in this process: no server is needed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createService, openBroker } from 'rivulet';
import { greeted, ${struct} } from '../src/contract.js';
import { handlers } from '../src/handlers.js';

test('Hello greets by name, and says so in its topic', async () => {
  const broker = await openBroker('memory:');
  const service = createService({ registry: 'memory', broker, environment: false, args: false });
  service.handle(${struct}, handlers(() => service.broker()));
  await service.start();
  const received = new Promise((resolve) => {
    void greeted.subscribe(broker, resolve, { from: 'earliest' });
  });
  const reply = await service.client(${struct}).${struct}.Hello({ name: 'ann' });
  assert.deepEqual(reply, { message: 'Hello ann' });
  assert.deepEqual(await received, { name: 'ann' });
  await service.stop();
  await broker.disconnect();
});
`,
    'README.md': `# ${name}

\`\`\`
npm install
npm test
npx micro server        # the broker, on 127.0.0.1:7488
npm run dev             # the service and the worker; both start again after a build
npx micro call ${service} ${struct}.Hello '{"name":"ann"}' --registry broker:rivulet://127.0.0.1:7488
\`\`\`
`,
  };
}
