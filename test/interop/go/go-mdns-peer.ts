/**
 * Runs in a separate network (go-mdns.test.ts): our service and a Go program find each other over
 * mDNS and call each other. Arguments: the version of go-micro, and the protocol.
 *
 * Ends with code 0 when every check held.
 */
import { openRegistry } from '../../../src/registry/open-registry.ts';
import { createService } from '../../../src/service/service.ts';
import { callOrders, checkReport, startOrders } from './go-orders.ts';
import { type GoName, runGo, startGo } from './go-programs.ts';

const OURS = 'go.micro.ts.orders';
const THEIRS = 'go.micro.go.orders';
const [version, protocol] = process.argv.slice(2) as [GoName, string];

const registry = await openRegistry('mdns');
const service = await startOrders(OURS, registry, protocol === 'grpc' ? 'grpc' : 'http', THEIRS);
// Go waits 100 ms for answers, which a busy machine may not give.
let report = await runGo(version, 'call', protocol, 'mdns', OURS);
for (let tries = 1; tries < 10 && report.failures !== null; tries++) {
  report = await runGo(version, 'call', protocol, 'mdns', OURS);
}
checkReport(report, protocol, `go-micro ${version}`);
const go = await startGo(version, 'serve', protocol, 'mdns', THEIRS, OURS);
const caller = createService({ name: 'caller', registry, args: false, environment: false });
for (let tries = 1; tries < 50 && (await registry.getService(THEIRS)).length === 0; tries++) {
  await new Promise((resolve) => setTimeout(resolve, 200));
}
await callOrders(caller, THEIRS, protocol);
const listed = (await registry.listServices()).map(({ name }) => name);
if (!listed.includes(OURS) || !listed.includes(THEIRS)) throw new Error(`the list has ${listed}`);
await caller.stop();
await service.stop();
await go[Symbol.asyncDispose]();
await registry.close();
