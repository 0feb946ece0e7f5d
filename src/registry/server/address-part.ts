/**
 * Users, passwords and tokens in the address of a registry, percent-encoded.
 *
 * Invariant: no error shows what stands before the last `@` of an address: a password that holds `/`, `@`
 * or `,` as they are is read as something else, and that must not print it.
 */
import { RivuletError } from '../../errors.ts';

/** A part of an address for an error: as it is where it follows the last `@`, else `...`. */
export function shownPart(part: string, address: string): string {
  const place = address.slice(address.lastIndexOf('@') + 1);
  return JSON.stringify(place.includes(part) ? part : '...');
}

/** What the part says. INVALID_ARGUMENT, which does not show it, where it cannot be read. */
export function decodePart(text: string, registry: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    const advice = 'write a % of the user, the password or the token as %25';
    throw new RivuletError(
      'INVALID_ARGUMENT',
      `the ${registry} address cannot be read: ${advice}`,
      {
        cause,
      },
    );
  }
}
