/** Users, passwords and tokens in the address of a registry, percent-encoded. */
import { RivuletError } from '../../errors.ts';

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
