/**
 * `npm start`'s set-up: modules installed, sources built. Nothing to do costs a few milliseconds.
 */
import { build, fail, installModules } from './steps.mjs';

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  fail(`Rivulet needs Node 20.19 or later; this is ${process.versions.node}`);
}
await installModules();
await build();
