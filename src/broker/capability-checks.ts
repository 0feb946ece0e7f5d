/**
 * Refuses what a broker cannot do, at the call that asks for it.
 */
import { RivuletError } from '../errors.ts';
import type { Broker } from './broker.ts';
import type { Capabilities } from './capabilities.ts';
import { checkPosition } from './options/option-rows.ts';
import type { ResolvedSubscribeOptions } from './options/options.ts';
import type { Position } from './positions.ts';

export class CapabilityChecks {
  readonly #broker: Pick<Broker, 'name' | 'capabilities'>;
  readonly #checkId: (id: string) => void;

  constructor(broker: Pick<Broker, 'name' | 'capabilities'>, checkId: (id: string) => void) {
    this.#broker = broker;
    this.#checkId = checkId;
  }

  /** Throws UNSUPPORTED; `what` is the caller's word for it. */
  readonly do = (capability: keyof Capabilities, what: string): void => {
    const value = this.#broker.capabilities[capability];
    if (value === false || value === 'none' || value === null) {
      throw new RivuletError('UNSUPPORTED', `the ${this.#broker.name} broker cannot do ${what}`);
    }
  };

  keepOrder(ordered: ResolvedSubscribeOptions['ordered']): void {
    if (ordered === 'key') this.do('orderPerKey', 'ordered: "key"');
    if (ordered === 'strict') this.do('strictOrder', 'ordered: "strict"');
  }

  /** Throws INVALID_ARGUMENT too, where `position` is none. `name` is the option's or the method's. */
  readFrom(position: Position, name: string): void {
    checkPosition(position, name);
    if (typeof position !== 'object') return;
    if ('id' in position) {
      this.do('replayById', `${name}: { id }`);
      this.#checkId(position.id);
    } else this.do('replayByTime', `${name}: { time }`);
  }
}
