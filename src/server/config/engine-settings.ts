/**
 * The settings that decide what the engine does with a change: node limits, the window of idempotent
 * ids, the memory that blocks may take.
 *
 * They are applied before the data directory is recovered and again after each CONFIG SET, by
 * this one function. Cost: a few stores.
 */
import type { Engine } from '../../engine/engine.ts';
import type { Config } from './config.ts';

export const ENGINE_SETTINGS = [
  'stream-node-max-entries',
  'stream-node-max-bytes',
  'stream-idmp-duration',
  'stream-idmp-maxsize',
] as const;

export function applyEngineSettings(engine: Engine, config: Config): void {
  const { nodeLimits, idempotencyWindow } = engine;
  nodeLimits.maxEntries = config.number('stream-node-max-entries');
  nodeLimits.maxBytes = config.number('stream-node-max-bytes');
  idempotencyWindow.duration = config.number('stream-idmp-duration');
  idempotencyWindow.maxsize = config.number('stream-idmp-maxsize');
}
