/**
 * fast-check, with the seeds of seed.ts: properties are held against the same examples in each run, and
 * RIVULET_SEED has others drawn. A property that fails prints its seed and the path to its example itself.
 */
import { basename } from 'node:path';
import fc from 'fast-check';
import { seedNamed } from './seed.ts';

fc.configureGlobal({ seed: seedNamed(basename(process.argv[1] ?? '')) | 0 });

export { fc };
