/**
 * `rivulet/client`: our RESP client, for a `micro server` or a Redis, without a broker.
 *
 *   import { connect } from 'rivulet/client';
 *   await using client = await connect({ port: 7488 });
 *   const id = await client.call('XADD', 'orders', '*', 'total', 12);
 */
export { Client, connect, type SendOptions } from './client.ts';
export type { CommandArgument } from './command-encoder.ts';
export { type ClientOptions, optionsFromUrl, type ReconnectOptions } from './options.ts';
export { pairsOf, type Reply, ReplyError, ReplyMap } from './reply.ts';
