/** CommonJS: every entry point loads by `require`. */
const { openBroker, createService } = require('rivulet');
const { BrokerBase } = require('rivulet/adapter');
const { createTestBroker } = require('rivulet/testing');
const { conformance } = require('rivulet/conformance');
const { connect } = require('rivulet/client');

for (const each of [createService, BrokerBase, createTestBroker, conformance, connect]) {
  if (typeof each !== 'function') throw new Error(`a ${typeof each} is no function`);
}

async function main() {
  const broker = await openBroker('memory:');
  await broker.respond('time', () => ({ body: 'noon' }));
  console.log((await broker.request('time', { body: '' })).text());
  await broker.disconnect();
}

main();
