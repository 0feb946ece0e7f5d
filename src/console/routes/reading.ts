/**
 * How bodies are read for an account: masked for all but admins.
 */
import type { Account } from '../http/users.ts';
import type { DecodeSetup } from '../messages/decode.ts';
import { Masks, NO_MASKS } from '../messages/mask.ts';
import type { ProtoTypes } from '../messages/proto-types.ts';

export class Reading {
  readonly #masks: Masks;
  readonly #protos: ProtoTypes | null;

  constructor(mask: readonly string[], protos: ProtoTypes | null) {
    this.#masks = new Masks(mask);
    this.#protos = protos;
  }

  setupFor(account: Account): DecodeSetup {
    return { masks: this.masksFor(account), protos: this.#protos };
  }

  masksFor({ roles }: Account): Masks {
    return roles.includes('admin') ? NO_MASKS : this.#masks;
  }
}
