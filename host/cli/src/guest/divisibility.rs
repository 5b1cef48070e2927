//! Tests whether a number is divisible by a constant, without dividing it.
//!
//! `x % 123 == 0` is how one takes a sample, or shards by hand. For most machines, compilers make a multiplication of it, since the multiples of an odd number are
//! just what gives small results if it is multiplied by that number's inverse (Granlund and Montgomery, "Division by Invariant Integers using
//! Multiplication", section 9). For WebAssembly they leave that to the engine, which computes the remainder first, in twice as many steps. So it is
//! done here, between the two.

use std::convert::Infallible;

use anyhow::{Context, Result};
use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{CodeSection, Instruction, Module};
use wasmparser::{FunctionBody, Operator, Parser};

/// The module with other tests of divisibility by constants, and how many there are of them.
///
/// # Errors
/// If it is no module.
pub fn without_division(module: &[u8]) -> Result<(Vec<u8>, usize)> {
    let (mut rewriter, mut rewritten) = (Rewriter { tests: 0 }, Module::new());
    rewriter.parse_core_module(&mut rewritten, Parser::new(0), module).context("the module cannot be read")?;
    Ok((rewritten.finish(), rewriter.tests))
}

struct Rewriter {
    tests: usize,
}

/// A number's remainder by a constant.
#[derive(Clone, Copy)]
struct Remainder {
    /// 32 or 64
    bits: u32,
    is_signed: bool,
    by: u64,
}

/// How to test for divisibility: whether `(x * inverse + offset).rotate_right(turn) <= limit`, as a number without a sign.
#[derive(Clone, Copy, Debug)]
struct Test {
    inverse: u64,
    offset: u64,
    turn: u32,
    limit: u64,
}

impl Reencode for Rewriter {
    type Error = Infallible;

    fn parse_function_body(&mut self, code: &mut CodeSection, body: FunctionBody<'_>) -> Result<(), Error<Infallible>> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let operators = body.get_operators_reader()?.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut rest = &operators[..];
        while let [first, after @ ..] = rest {
            // Nothing jumps in between them: what a jump can go to is an operator, too.
            if let Some((test, remainder, is_divisible, length)) = found(rest) {
                remainder.write(test, is_divisible, |instruction| _ = function.instruction(&instruction));
                self.tests += 1;
                rest = &rest[length..];
            } else {
                function.instruction(&self.instruction(first.clone())?);
                rest = after;
            }
        }
        code.function(&function);
        Ok(())
    }
}

/// The test that operators begin with, if they do: with it, of what it is, whether it asks for what is divisible, and of how many operators it consists.
fn found(operators: &[Operator<'_>]) -> Option<(Test, Remainder, bool, usize)> {
    let [constant, division, rest @ ..] = operators else { return None };
    let remainder = match (constant, division) {
        (Operator::I32Const { value }, Operator::I32RemU) => {
            Remainder { bits: 32, is_signed: false, by: u64::from(*value as u32) }
        }
        (Operator::I32Const { value }, Operator::I32RemS) => {
            Remainder { bits: 32, is_signed: true, by: u64::from(value.unsigned_abs()) }
        }
        (Operator::I64Const { value }, Operator::I64RemU) => Remainder { bits: 64, is_signed: false, by: *value as u64 },
        (Operator::I64Const { value }, Operator::I64RemS) => Remainder { bits: 64, is_signed: true, by: value.unsigned_abs() },
        _ => return None,
    };
    let (is_divisible, length) = match (remainder.bits, rest) {
        (32, [Operator::I32Eqz, ..]) | (64, [Operator::I64Eqz, ..]) => (true, 3),
        (32, [Operator::I32Const { value: 0 }, Operator::I32Eq, ..]) => (true, 4),
        (32, [Operator::I32Const { value: 0 }, Operator::I32Ne, ..]) => (false, 4),
        (64, [Operator::I64Const { value: 0 }, Operator::I64Eq, ..]) => (true, 4),
        (64, [Operator::I64Const { value: 0 }, Operator::I64Ne, ..]) => (false, 4),
        _ => return None,
    };
    Some((remainder.test()?, remainder, is_divisible, length))
}

impl Remainder {
    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// None if the number is 0 (it traps), or a power of two (for which engines have something better).
    fn test(self) -> Option<Test> {
        let mask = self.mask();
        let turn = self.by.checked_ilog2().map(|_| self.by.trailing_zeros())?;
        let odd = self.by >> turn;
        if odd == 1 {
            return None;
        }
        // Newton: each step doubles the number of bits that are right, and an odd number is its own inverse in three.
        let mut inverse = odd;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        }
        let inverse = inverse & mask;
        Some(match self.is_signed {
            false => Test { inverse, offset: 0, turn, limit: mask / self.by },
            // Multiples lie on both sides of zero, as far as the largest number; they are moved to begin there.
            true => {
                let offset = (((mask >> 1) / odd) >> turn) << turn;
                Test { inverse, offset, turn, limit: (2 * offset) >> turn }
            }
        })
    }

    /// Writes the instructions of a test of the number that lies on the stack.
    fn write(self, test: Test, is_divisible: bool, mut write: impl FnMut(Instruction<'static>)) {
        let constant = |number: u64| match self.bits {
            32 => Instruction::I32Const(number as u32 as i32),
            _ => Instruction::I64Const(number as i64),
        };
        let either = |narrow, wide| if self.bits == 32 { narrow } else { wide };
        write(constant(test.inverse));
        write(either(Instruction::I32Mul, Instruction::I64Mul));
        if test.offset > 0 {
            write(constant(test.offset));
            write(either(Instruction::I32Add, Instruction::I64Add));
        }
        if test.turn > 0 {
            write(constant(test.turn.into()));
            write(either(Instruction::I32Rotr, Instruction::I64Rotr));
        }
        write(constant(test.limit));
        write(match is_divisible {
            true => either(Instruction::I32LeU, Instruction::I64LeU),
            false => either(Instruction::I32GtU, Instruction::I64GtU),
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasm_encoder::{CodeSection, ExportKind, ExportSection, Function, FunctionSection, TypeSection, ValType};
    use wasmtime::{Engine, Instance, Store};

    use super::*;

    /// A module with a function `f` of one parameter of so many bits.
    fn module(bits: u32, instructions: &[Instruction<'_>]) -> Vec<u8> {
        let (mut types, mut functions, mut exports, mut code) =
            (TypeSection::new(), FunctionSection::new(), ExportSection::new(), CodeSection::new());
        types.ty().function([if bits == 32 { ValType::I32 } else { ValType::I64 }], [ValType::I32]);
        functions.function(0);
        exports.export("f", ExportKind::Func, 0);
        let mut function = Function::new([]);
        function.instruction(&Instruction::LocalGet(0));
        instructions.iter().chain([&Instruction::End]).for_each(|instruction| _ = function.instruction(instruction));
        code.function(&function);
        let mut module = Module::new();
        module.section(&types).section(&functions).section(&exports).section(&code);
        module.finish()
    }

    fn remainder(bits: u32, is_signed: bool, by: i64) -> [Instruction<'static>; 2] {
        match (bits, is_signed) {
            (32, false) => [Instruction::I32Const(by as i32), Instruction::I32RemU],
            (32, true) => [Instruction::I32Const(by as i32), Instruction::I32RemS],
            (_, false) => [Instruction::I64Const(by), Instruction::I64RemU],
            (_, true) => [Instruction::I64Const(by), Instruction::I64RemS],
        }
    }

    /// What a module's function says of numbers.
    fn answers(bits: u32, module: &[u8], numbers: &[i64]) -> Vec<i32> {
        let engine = Engine::default();
        let module = wasmtime::Module::new(&engine, module).expect("it is a module");
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("it imports nothing");
        match bits {
            32 => {
                let f = instance.get_typed_func::<i32, i32>(&mut store, "f").expect("it is there");
                numbers.iter().map(|&n| f.call(&mut store, n as i32).expect("it does not trap")).collect()
            }
            _ => {
                let f = instance.get_typed_func::<i64, i32>(&mut store, "f").expect("it is there");
                numbers.iter().map(|&n| f.call(&mut store, n).expect("it does not trap")).collect()
            }
        }
    }

    fn constant() -> impl Strategy<Value = i64> {
        prop_oneof![1..1000i64, any::<i64>(), any::<i32>().prop_map(i64::from), (1..64u32, 1..99i64).prop_map(|(k, n)| n << k)]
            .prop_filter("nothing can be divided by zero", |by| *by as i32 != 0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// The module answers as before, of any numbers, and of those above all that lie about the multiples; and nothing is divided any more, unless by a power
        /// of two.
        #[test]
        fn answers_as_before(
            bits in prop_oneof![Just(32u32), Just(64)],
            is_signed: bool,
            by in constant(),
            form in 0..3usize,
            some in prop::collection::vec(any::<i64>(), 20),
        ) {
            let zero = if bits == 32 { Instruction::I32Const(0) } else { Instruction::I64Const(0) };
            let either = |narrow, wide| if bits == 32 { narrow } else { wide };
            let end: &[Instruction<'_>] = &[
                vec![either(Instruction::I32Eqz, Instruction::I64Eqz)],
                vec![zero.clone(), either(Instruction::I32Eq, Instruction::I64Eq)],
                vec![zero, either(Instruction::I32Ne, Instruction::I64Ne)],
            ][form];
            let before = module(bits, &[&remainder(bits, is_signed, by), end].concat());
            let (after, tests) = without_division(&before).expect("it is a module");
            let magnitude = if is_signed { by.unsigned_abs() } else { by as u64 };
            let magnitude = if bits == 32 && is_signed { u64::from((by as i32).unsigned_abs()) } else { magnitude };
            let magnitude = if bits == 32 { u64::from(magnitude as u32) } else { magnitude };
            prop_assert_eq!(tests, usize::from(!magnitude.is_power_of_two()));
            let near = some.iter().flat_map(|n| (-1..2).map(move |d| n.wrapping_mul(by).wrapping_add(d)));
            let small = some.iter().map(|n| (n % 1000).wrapping_mul(by));
            let edges = [0, 1, -1, i64::MIN, i64::MAX, i32::MIN.into(), i32::MAX.into(), by, by.wrapping_neg()];
            let numbers: Vec<i64> = some.iter().copied().chain(near).chain(small).chain(edges).collect();
            prop_assert_eq!(answers(bits, &after, &numbers), answers(bits, &before, &numbers));
        }
    }

    /// What only looks like such a test stays as it is.
    #[test]
    fn others_stay() {
        let [by, rem] = remainder(64, false, 123);
        for instructions in [
            vec![by.clone(), rem.clone(), Instruction::I64Const(1), Instruction::I64Eq],
            vec![by.clone(), rem.clone(), Instruction::I32WrapI64],
            vec![by.clone(), rem, Instruction::I64Const(0), Instruction::I64LtS],
            vec![by, Instruction::I64DivU, Instruction::I64Eqz],
            [&remainder(64, false, 1)[..], &[Instruction::I64Eqz]].concat(),
            [&remainder(64, false, 0)[..], &[Instruction::I64Eqz]].concat(),
            [&remainder(64, true, i64::MIN)[..], &[Instruction::I64Eqz]].concat(),
        ] {
            let before = module(64, &instructions);
            assert_eq!(without_division(&before).expect("it is a module"), (before, 0));
        }
    }
}
