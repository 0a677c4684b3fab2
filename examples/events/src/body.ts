import { BadRequestException, type PipeTransform, NotFoundException } from '@nestjs/common';

const LARGEST_INTEGER = 2_147_483_647; // PostgreSQL's integer

/** Reads fields of a JSON body and answers 400 with all faults at once. */
export class Body {
  private readonly faults: string[] = [];
  private readonly fields: Record<string, unknown>;

  constructor(body: unknown) {
    const isObject = typeof body === 'object' && body !== null && !Array.isArray(body);
    this.fields = isObject ? (body as Record<string, unknown>) : {};
    if (!isObject) this.faults.push('the body is not a JSON object');
  }

  text(name: string, longest: number, pattern = /^[^\p{Cc}]+$/u, what = 'text without control characters'): string {
    const value = this.fields[name];
    const trimmed = typeof value === 'string' ? value.trim() : '';
    if (trimmed === '' || trimmed.length > longest || !pattern.test(trimmed)) {
      this.faults.push(`${name} must be ${what}, 1 to ${longest} characters`);
    }
    return trimmed;
  }

  integer(name: string, min = 1): number {
    const value = this.fields[name];
    const good = typeof value === 'number' && Number.isInteger(value) && value >= min && value <= LARGEST_INTEGER;
    if (!good) this.faults.push(`${name} must be a whole number of at least ${min}`);
    return good ? value : 0;
  }

  /** A point in time as ISO 8601 with its zone. */
  time(name: string): string {
    const value = this.fields[name];
    const good = typeof value === 'string' && /^\d{4}-\d\d-\d\dT.+(Z|[+-]\d\d:\d\d)$/.test(value) && !Number.isNaN(Date.parse(value));
    if (!good) this.faults.push(`${name} must be a time such as 2030-05-01T18:00:00Z`);
    return good ? new Date(value).toISOString() : '';
  }

  done(): void {
    if (this.faults.length > 0) throw new BadRequestException({ statusCode: 400, message: 'invalid', faults: this.faults });
  }
}

/** A number in a path that can be a key; anything else cannot exist. */
export class KeyPipe implements PipeTransform<string, number> {
  transform(value: string): number {
    const key = /^\d{1,10}$/.test(value) ? Number(value) : 0;
    if (key < 1 || key > LARGEST_INTEGER) throw new NotFoundException();
    return key;
  }
}
