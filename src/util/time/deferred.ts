/**
 * A promise that is settled from outside, by the code that holds it.
 *
 * Its rejection counts as handled: a caller that reads only the messages of a call gets the failure there.
 */
export class Deferred<T> {
  readonly promise: Promise<T>;
  resolve: (value: T) => void = () => {};
  reject: (error: Error) => void = () => {};

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.promise.catch(() => {});
  }
}
