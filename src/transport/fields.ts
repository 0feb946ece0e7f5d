/**
 * An object of texts without inherited names, so that metadata named `__proto__` or `constructor` is
 * data. Cost: V8 reads and writes it faster than `Object.create(null)`, which is a dictionary.
 */
export const Fields = function Fields() {} as unknown as new () => Record<string, string>;
Fields.prototype = Object.create(null);
