/**
 * `npm run build`: compiles the root package and every adapter, and puts the command together, whatever
 * was built before.
 */
import { build, installModules } from './steps.mjs';

await installModules();
await build({ force: true });
